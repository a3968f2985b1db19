"""A study's trials as the Optuna dashboard shows them, so that it says what the study's own report says.

Checked with optuna-dashboard 0.21. It reads constraints under the key that Optuna had before 5, takes the best trial of
all that completed, has trials that were stopped at the value they reported last, and weighs settings by another method.
What it is served here is read from the journal; nothing is written back.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Container, Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

from optuna.storages import JournalStorage
from optuna.trial import FrozenTrial, TrialState

from results.analysis.importance import LEAST_TRIALS, importances
from results.analysis.pareto import front, objectives
from results.records.journal import JournalReader
from results.records.optuna_distributions import distribution
from results.records.optuna_trials import (
    PENALTY,
    PRIOR,
    attributes_of,
    has_outcome,
    read_journal,
    read_search,
    record_of,
)
from results.records.stage import OUTCOMES
from results.records.study_record import StudyRecord
from results.records.trial_record import BASELINE, TrialRecord, best_record
from results.verdict.sentences import spoken
from spinlock_dist.errors import SpinlockError
from study.search.constraints import COUNT

OLD_CONSTRAINTS = "constraints"
"""Attribute of a trial under which Optuna kept constraints before version 5: a list."""
METRIC_NAMES = "study:metric_names"
"""Attribute of a study that names its objectives, as `optuna.Study.set_metric_names` sets it."""
NOTE, NOTE_VERSION = "dashboard:note_str:0", "dashboard:note_ver"
"""Attributes of a study that are its note in the dashboard."""
OBJECTIVES = ("log10 imbalance", "mean FVU", "-utilization")
"""Names of `results.analysis.pareto.objectives`."""

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
"""A WSGI application."""


class DashboardStorage(JournalStorage):
    """The journal of a search, for reading, with trials as the dashboard is to show them: see `note`."""

    def __init__(self, journal: Path, count: int, text: str):
        super().__init__(JournalReader(journal))
        self._count = count
        self._attributes = {METRIC_NAMES: list(OBJECTIVES[:count]), NOTE: text, NOTE_VERSION: 1}
        self._finished: dict[int, FrozenTrial] = {}

    def get_all_studies(self) -> list[Any]:
        """The study, with names of its objectives and a note."""
        studies = super().get_all_studies()
        for each in studies:
            each.system_attrs = each.system_attrs | self._attributes
        return studies

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """Those that are stored, and the names of the objectives and the note."""
        return super().get_study_system_attrs(study_id) | self._attributes

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """A trial as it is shown."""
        return self._shown(super().get_trial(trial_id))

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """The trials as they are shown; whoever changes one changes what others are shown."""
        return [self._shown(trial) for trial in super().get_all_trials(study_id, deepcopy=False, states=states)]

    def _shown(self, trial: FrozenTrial) -> FrozenTrial:
        if not trial.state.is_finished() or not has_outcome(trial):
            return trial
        if trial.number not in self._finished:
            self._finished[trial.number] = shown(trial, self._count)
        return self._finished[trial.number]


def shown(trial: FrozenTrial, count: int) -> FrozenTrial:
    """A finished trial with `count` objectives as the dashboard is to show it: see `note`."""
    record, prior = record_of(trial, details=False), trial.user_attrs.get(PRIOR)
    found = copy.copy(trial)
    out = prior is not None or bool(record.kind) or record.state in ("diverged", "refused")
    found.system_attrs = {**trial.system_attrs, OLD_CONSTRAINTS: [*record.guards.values(), float(out)]}
    found.values = list(objectives(record.metrics)[:count]) if record.metrics else None
    found.user_attrs = {
        "outcome": _outcome(record, prior),
        "epochs": record.epochs,
        "seconds": round(record.seconds, 2),
    }
    if record.metrics is not None:
        figures = {"imbalance": "imbalance", "worst FVU": "fvu_worst", "mean FVU": "fvu_mean"}
        found.user_attrs |= {name: round(record.metrics.estimate(each), 5) for name, each in figures.items()}
        found.user_attrs["utilization"] = round(record.metrics.utilization, 4)
    if (penalty := attributes_of(trial).get(PENALTY)) is not None:
        found.user_attrs["penalty told to the sampler"] = round(penalty, 5)
    return found


def _outcome(record: TrialRecord, prior: str | None) -> str:
    """How a trial ended, in words."""
    if prior is not None:
        return "the uniform baseline" if prior == BASELINE else f"of an earlier study: {prior}"
    if record.state != "complete":
        return record.reason or OUTCOMES[record.state]
    return record.kind or (f"breaks {record.broken_guards}" if record.broken_guards else "feasible")


def note(study: StudyRecord, count: int) -> str:
    """What is what in the dashboard, as Markdown."""
    others = "; the other objectives are the mean FVU and the utilization of codes, negated" if count > 1 else ""
    best = "*Best trials* is the Pareto front of the feasible trials." if count > 1 else "The best trial is feasible."
    exported = (study.verdict or {}).get("exported")
    verdict = f" It exported {spoken(exported)}." if exported else ""
    return f"""# Study {study.name}: what is what

- **Objective**: log10 of the imbalance, the largest FVU of a category over the smallest; 0 is equal{others}. The
  sampler was told it plus a penalty where a guard may be broken (a trial's attribute).
- **Infeasible** trials break a guard, or can never be the best: what collapsed, duplicates of other trials, trials of
  earlier studies, and the uniform baseline, which is the first trial here. *outcome* among a trial's attributes says
  which. {best}
- **Pruned** trials were stopped early. They have the objective they had reached then, so they are on the same scale,
  but after fewer epochs.
- **Intermediate values** are the FVU of the worst category, which early stopping looks at, not the objective.
- **Hyperparameter importance** is that of the report: fANOVA over the trials that completed, of the imbalance. Settings
  that nothing read in some of them have no bar; below {LEAST_TRIALS} trials there are none.
- All scores are of rows that steered the search. Whether anything beat uniform ratios, on rows that did not, is in the
  report: `{study.folder.report}`.{verdict}

This page only reads: notes and deletions are refused."""


# ---------------------------------------------------------------- what the dashboard reckons itself


class StudyAnswers:
    """A WSGI application before the dashboard's own: what that would reckon in its way it answers in the study's.

    Which trials are the best, and how much each setting mattered.
    """

    def __init__(self, app: Application, journal: Path, study: StudyRecord, count: int):
        self._app, self._study, self._count = app, study, count
        self._search = read_journal(journal)
        self._known: tuple[int, list[list[dict[str, Any]]]] = (-1, [])

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer, or have the dashboard do so."""
        asked = re.fullmatch(r"/api/studies/\d+(/param_importances)?/?", environ.get("PATH_INFO", ""))
        if asked is None or environ.get("REQUEST_METHOD") != "GET":
            return self._app(environ, start_response)
        if asked[1]:
            return _answer({"param_importances": self._importances()}, "200 OK", start_response)
        status, detail = self._ask(environ)
        if "best_trials" in detail:
            best = self._best()
            whole = detail
            if not best <= {trial["number"] for trial in detail["trials"]}:  # the page has asked for newer ones only
                query = urlencode([each for each in parse_qsl(environ.get("QUERY_STRING", "")) if each[0] != "after"])
                whole = self._ask({**environ, "QUERY_STRING": query})[1]
            detail["best_trials"] = [trial for trial in whole["trials"] if trial["number"] in best]
        return _answer(detail, status, start_response)

    def _ask(self, environ: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """The dashboard's own answer: status and content."""
        told: list[str] = []
        body = b"".join(self._app({**environ}, lambda status, headers, *_: told.append(status)))
        return told[0], json.loads(body)

    def _best(self) -> set[int]:
        records = read_search(self._search, details=False)
        if self._count > 1:
            return {record.number for record in front(records)}
        best = best_record(records)
        return set() if best is None else {best.number}

    def _importances(self) -> list[list[dict[str, Any]]]:
        """Of each objective, as the dashboard has them; only the imbalance has any."""
        records = read_search(self._search, details=False)
        if self._known[0] != len(records):
            self._known = (len(records), [self._of_imbalance(records), *[[] for _ in range(self._count - 1)]])
        return self._known[1]

    def _of_imbalance(self, records: Sequence[TrialRecord]) -> list[dict[str, Any]]:
        try:
            space = self._study.space()
            shares = importances(records, space, self._study.settings).get("imbalance", {})
        except SpinlockError:  # the space is lost, as the report says
            return []
        return [
            {
                "name": name,
                "importance": share,
                "distribution": type(distribution(space.parameters[name])).__name__,
            }
            for name, share in shares.items()
        ]


def _answer(content: dict[str, Any], status: str, start_response: Callable[..., Any]) -> list[bytes]:
    start_response(status, [("Content-Type", "application/json"), ("Cache-Control", "no-store")])
    return [json.dumps(content).encode()]


def dashboard_application(journal: Path, study: StudyRecord) -> Application:
    """The Optuna dashboard on a search of `study`, for reading only."""
    from optuna_dashboard import wsgi  # not installed everywhere

    count = COUNT[study.description["config"].get("objective", "single")]
    return StudyAnswers(wsgi(DashboardStorage(journal, count, note(study, count))), journal, study, count)
