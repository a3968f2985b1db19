"""What the tokens of all categories say about each: a linear correction of the features that they rebuild."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.linear_model import RidgeCV
from torch import Tensor, nn

PENALTIES = np.logspace(0, 5, 11)
"""In rows of unit variance: from hardly any to no correction of some thousand rows."""


class JointCorrection(nn.Module):
    """An affine map of all rebuilt features, added to them, per member; zero until it is fitted.

    Its parts are buffers: they are no weights that gradients train.
    """

    weights_MDD: Tensor
    bias_MD: Tensor

    def __init__(self, members: int, features: int):
        super().__init__()
        self.register_buffer("weights_MDD", torch.zeros(members, features, features))
        self.register_buffer("bias_MD", torch.zeros(members, features))

    def forward(self, output_MBD: Tensor) -> Tensor:
        """The corrected features."""
        return output_MBD + output_MBD @ self.weights_MDD + self.bias_MD[:, None]

    def fit(self, member: int, output_ND: np.ndarray, target_ND: np.ndarray) -> None:
        """Fit a member's correction to what its decoders rebuild of the training rows, and to these rows.

        Ridge regression (Hoerl & Kennard 1970) of what they leave; each feature has the penalty with the least error of
        rows left out one by one. Where something is not finite there is no correction.
        """
        weights_DD, bias_D = np.zeros(self.weights_MDD.shape[1:]), np.zeros(self.bias_MD.shape[1])
        if np.isfinite(output_ND).all():
            output_ND = output_ND.astype(np.float64)
            ridge = RidgeCV(PENALTIES, alpha_per_target=True).fit(output_ND, target_ND - output_ND)
            weights_DD, bias_D = ridge.coef_.reshape(weights_DD.shape).T, ridge.intercept_
        self.weights_MDD[member] = torch.from_numpy(weights_DD)
        self.bias_MD[member] = torch.from_numpy(np.asarray(bias_D))
