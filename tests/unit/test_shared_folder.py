"""Where a study may be kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from spinlock_dist.errors import ConfigError
from study.cluster.shared_folder import answer, check_lasting


def test_the_folder_of_a_ray_job_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"--runs: Ray deletes .* when the job has ended"):
        check_lasting(tmp_path / "session" / "runtime_resources" / "working_dir_files" / "_ray_pkg_1" / "runs")
    check_lasting(tmp_path / "runs")


def test_a_node_answers_beside_what_it_reads_or_says_what_it_found(tmp_path):
    probe = tmp_path / ".probe"
    probe.write_text("token")
    written, complaint = answer(probe, "token")
    assert (tmp_path / written).exists() and complaint == ""
    assert answer(probe, "another")[1] == "it holds something else"
    written, complaint = answer(tmp_path / "elsewhere" / ".probe", "token")
    assert complaint == "No such file or directory"
    assert not (Path(tmp_path) / written).exists()
