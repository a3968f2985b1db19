"""What may vary in a study: plain data in YAML files, checked against `TrialConfig`."""

from search_spaces.reader import load_space, preset_names
from search_spaces.space import Categorical, Float, Int, Parameter, SearchSpace

__all__ = ["Categorical", "Float", "Int", "Parameter", "SearchSpace", "load_space", "preset_names"]
