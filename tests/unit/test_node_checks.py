"""Where a study may be kept."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from spinlock_dist.errors import ConfigError
from study.cluster.node_checks import check_lasting, look_around


def test_the_folder_of_a_ray_job_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"--runs: Ray deletes .* when the job has ended"):
        check_lasting(tmp_path / "session" / "runtime_resources" / "working_dir_files" / "_ray_pkg_1" / "runs")
    check_lasting(tmp_path / "runs")


def test_a_node_answers_beside_what_it_reads_or_says_what_it_found(tmp_path):
    probe = tmp_path / ".probe"
    probe.write_text("token")
    answer = look_around(probe, "token")
    assert (tmp_path / answer.written).exists() and answer.complaint == ""
    assert (len(answer.gpus), answer.versions["torch"]) == (torch.cuda.device_count(), torch.__version__)
    assert look_around(probe, "another").complaint == "it holds something else"
    answer = look_around(tmp_path / "elsewhere" / ".probe", "token")
    assert answer.complaint == "No such file or directory"
    assert not (Path(tmp_path) / answer.written).exists()
