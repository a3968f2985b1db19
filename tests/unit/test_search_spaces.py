from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from search_spaces import Categorical, Float, Int, Parameter, SearchSpace, load_space, preset_names
from search_spaces.show import main
from spinlock_dist.compression.strategies import STRATEGIES
from spinlock_dist.config import Bounds, TrialConfig
from spinlock_dist.errors import ConfigError
from tests.fuzz import bounded, inputs

in_one_file = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # rewritten for every example


def written(folder: Path, text: str) -> Path:
    path = folder / "space.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def space_with(*lines: str) -> str:
    """Return a space file whose first parameter stands on line 3."""
    return "\n".join(["description: a test", "parameters:", *(f"  {line}" for line in lines)]) + "\n"


def values_of(parameter: Parameter) -> st.SearchStrategy[Any]:
    if isinstance(parameter, Categorical):
        return st.sampled_from(parameter.choices)
    if isinstance(parameter, Int):
        return st.integers(0, parameter.count() - 1).map(lambda index: parameter.low + index * parameter.step)
    return st.floats(parameter.low, parameter.high)


# ---------------------------------------------------------------- the presets


@pytest.fixture(scope="module", params=preset_names())
def preset(request: pytest.FixtureRequest) -> SearchSpace:
    return load_space(request.param)


def test_the_default_study_has_its_space() -> None:
    space = load_space("adaptive_compression")
    assert space.parameters["compression.strategy"] == Categorical(
        choices=("uniform", "variance", "dimensionality", "information", "balanced", "waterfill", "feedback")
    )
    assert space.combinations() is None


@given(data=st.data())
def test_every_config_of_a_preset_can_be_run(preset: SearchSpace, data: st.DataObject) -> None:
    values: dict[str, Any] = {}
    for name, parameter in preset.parameters.items():
        if preset.counts(name, values):
            values[name] = data.draw(values_of(parameter), name)
    compression = preset.to_config(TrialConfig(), values).compression
    assert compression.strategy in STRATEGIES
    assert all(high / low >= compression.min_ratio_range * (1 - 1e-9) for low, high in compression.bounds.pairs())


def test_the_default_config_lies_in_every_preset(preset: SearchSpace) -> None:
    for name, parameter in preset.parameters.items():
        value: Any = TrialConfig()
        for key in name.split("."):
            value = value.high / value.low if isinstance(value, Bounds) and key == "span" else getattr(value, key)
        if isinstance(parameter, Categorical):
            assert value in parameter.choices, name
        else:
            assert parameter.low <= value <= parameter.high, name


def test_a_preset_tells_its_story(preset: SearchSpace, repository: Path) -> None:
    text = (repository / "search_spaces" / f"{preset.name}.yaml").read_text()
    for topic in ("# What varies", "# How long", "# On what", "# Command"):
        assert topic in text


# ---------------------------------------------------------------- reading


def test_all_kinds_of_parameter(tmp_path: Path) -> None:
    text = space_with(
        "training.learning_rate: {type: float, low: 1e-4, high: 1e-2, log: true}",
        "compression.sharpness: {type: float, low: 0.5, high: 2, step: 0.5}",
        "training.batch_size: {type: int, low: 64, high: 256, step: 64}",
        "training.patience: {type: categorical, choices: [null, 4]}",
    )
    space = load_space(written(tmp_path, text + "fixed: {training.epochs: 7, model.decoder: shared}\n"))
    assert space == SearchSpace(
        name="space",
        description="a test",
        parameters={
            "training.learning_rate": Float(low=1e-4, high=1e-2, log=True),
            "compression.sharpness": Float(low=0.5, high=2.0, step=0.5),
            "training.batch_size": Int(low=64, high=256, step=64),
            "training.patience": Categorical(choices=(None, 4)),
        },
        fixed={"training.epochs": 7, "model.decoder": "shared"},
    )
    assert [parameter.count() for parameter in space.parameters.values()] == [None, 4, 4, 2]
    assert space.combinations() is None


def test_a_finite_space_is_counted() -> None:
    parameters: dict[str, Parameter] = {
        "model.levels": Categorical(choices=("residual", "parallel")),
        "model.hidden": Int(low=1, high=9, log=True),
        "loss.topographic": Float(low=0, high=1, step=0.25),
    }
    space = SearchSpace(name="finite", description="", parameters=parameters)
    assert space.combinations() == 2 * 9 * 5


def test_values_win_over_fixed_settings_and_those_over_the_base() -> None:
    space = SearchSpace(
        name="small",
        description="",
        parameters={"compression.bounds.L0.span": Float(low=2, high=4)},
        fixed={"compression.bounds.L0.low": 1.2, "training.epochs": 7},
    )
    base = TrialConfig().with_overrides({"training.epochs": 100, "seed": 3})
    config = space.to_config(base, {"compression.bounds.L0.span": 2.0})
    assert Bounds(low=1.2, high=2.4) == config.compression.bounds.L0
    assert (config.training.epochs, config.seed) == (7, 3)


def test_a_value_that_is_no_parameter_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"did you mean 'compression.rule'"):
        load_space("quick").to_config(TrialConfig(), {"compression.rules": "graded"})


# ---------------------------------------------------------------- conditions

STRATEGY = "compression.strategy: {type: categorical, choices: [balanced, waterfill, feedback]}"
STEP = "compression.feedback.risk: {type: float, low: 0.2, high: 1.0, when: {compression.strategy: feedback}}"


def test_a_parameter_counts_only_where_its_condition_holds(tmp_path: Path) -> None:
    space = load_space(written(tmp_path, space_with(STEP, STRATEGY)))
    assert list(space.parameters) == ["compression.strategy", "compression.feedback.risk"]  # what decides comes first
    assert space.parameters["compression.feedback.risk"].when == {"compression.strategy": ("feedback",)}
    assert space.counts("compression.feedback.risk", {"compression.strategy": "feedback"})
    assert not space.counts("compression.feedback.risk", {"compression.strategy": "balanced"})
    assert not space.counts("compression.feedback.risk", {})
    base = TrialConfig().with_overrides({"compression.feedback.risk": 0.9})
    assert space.to_config(base, {"compression.strategy": "waterfill"}).compression.feedback.risk == 0.9


@st.composite
def conditional_spaces(draw: st.DrawFn) -> SearchSpace:
    """Spaces of small categorical parameters, each conditional on up to two of those before it."""
    parameters: dict[str, Parameter] = {}
    for index in range(draw(st.integers(1, 5))):
        when = {}
        for parent in draw(
            st.lists(st.sampled_from(sorted(parameters)), max_size=2, unique=True) if index else st.just([])
        ):
            choices = parameters[parent].probes()
            when[parent] = tuple(draw(st.lists(st.sampled_from(choices), min_size=1, unique=True)))
        choices = tuple(range(draw(st.integers(1, 3))))
        parameters[f"p{index}"] = Categorical(choices=choices, when=when or None)
    return SearchSpace(name="s", description="", parameters=parameters)


def every_config(space: SearchSpace, names: tuple[str, ...], values: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """List a finite space the plain way: each parameter in turn, where it counts."""
    if not names:
        yield values
    elif not space.counts(names[0], values):
        yield from every_config(space, names[1:], values)
    else:
        for value in space.parameters[names[0]].probes():
            yield from every_config(space, names[1:], {**values, names[0]: value})


@given(conditional_spaces())
def test_branches_part_the_space(space: SearchSpace) -> None:
    configs, branches = list(every_config(space, tuple(space.parameters), {})), list(space.branches())
    assert space.combinations() == len(configs) == len({tuple(config.items()) for config in configs})
    for config in configs:
        assert all(space.counts(name, config) == (name in config) for name in space.parameters)
        within = [
            branch
            for branch in branches
            if all(name in config and config[name] in group for name, group in branch.choices.items())
        ]
        assert len(within) == 1
        assert within[0].names == tuple(config)


@pytest.mark.parametrize("preset", preset_names())
def test_the_parts_of_a_space_by_one_choice_make_up_the_whole(preset: str) -> None:
    space = load_space(preset)
    name = "compression.strategy"
    parts = {choice: space.only(name, choice) for choice in space.parameters[name].probes()}
    assert {each for part in parts.values() for each in part.parameters} == set(space.parameters)
    for choice, part in parts.items():
        assert part.parameters[name].probes() == (choice,)
        counted = {each for branch in part.branches() for each in branch.names}
        assert counted == set(part.parameters)
        assert counted == {
            each
            for branch in space.branches()
            for each in branch.names
            if choice in branch.choices.get(name, (choice,))
        }


def test_a_condition_on_nothing_is_refused_in_python_too() -> None:
    with pytest.raises(ConfigError, match=r"search space 's': a: when: 'c' is not a parameter"):
        SearchSpace(name="s", description="", parameters={"a": Int(low=1, high=2, when={"c": ("x",)})})


def test_bounds_are_checked_in_each_branch_by_itself(tmp_path: Path) -> None:
    """The narrowest span is 1.2 and the largest range 1.5, but never in the same config."""
    text = space_with(
        "compression.strategy: {type: categorical, choices: [balanced, waterfill]}",
        "compression.bounds.L1.span: {type: float, low: 1.2, high: 2, when: {compression.strategy: balanced}}",
        "compression.min_ratio_range: {type: float, low: 1, high: 1.5, when: {compression.strategy: STRATEGY}}",
    )
    assert load_space(written(tmp_path, text.replace("STRATEGY", "waterfill")))
    with pytest.raises(ConfigError, match=r"line 5.*goes up to 1.5, the narrowest bounds allow 1.2"):
        load_space(written(tmp_path, text.replace("STRATEGY", "balanced")))


# ---------------------------------------------------------------- inheritance


def child(folder: Path, text: str, parent: str = "adaptive_compression") -> Path:
    path = folder / "child.yaml"
    path.write_text(f"description: a child\nextends: {parent}\n{text}", encoding="utf-8")
    return path


def test_own_entries_go_over_inherited_ones(tmp_path: Path) -> None:
    text = """
parameters:
  loss.commitment: {type: float, low: 2.0, high: 4.0}
  model.hidden: {type: int, low: 8, high: 64}
fixed:
  training.learning_rate: 0.002
  training.epochs: 5
remove: [compression.sharpness]
"""
    space, inherited = load_space(child(tmp_path, text)), load_space("adaptive_compression")
    assert (space.name, space.description) == ("child", "a child")
    expected = {
        **inherited.parameters,
        "loss.commitment": Float(low=2.0, high=4.0),
        "model.hidden": Int(low=8, high=64),
    }
    del expected["compression.sharpness"], expected["training.learning_rate"]
    assert space.parameters == expected
    assert space.fixed == {"training.learning_rate": 0.002, "training.epochs": 5}


def test_a_fixed_setting_can_vary_again_and_one_end_of_a_bound_replaces_the_other(tmp_path: Path) -> None:
    written(
        tmp_path,
        space_with("compression.bounds.L0.span: {type: float, low: 2, high: 3}") + "fixed: {training.epochs: 3}\n",
    )
    text = "fixed: {compression.bounds.L0.high: 1.5}\nparameters:\n  model.hidden: {type: int, low: 8, high: 9}\n"
    space = load_space(child(tmp_path, text, "space.yaml"))  # beside the child
    assert space.parameters == {"model.hidden": Int(low=8, high=9)}
    assert space.fixed == {"training.epochs": 3, "compression.bounds.L0.high": 1.5}


def test_a_fixed_or_narrowed_choice_settles_inherited_conditions(tmp_path: Path) -> None:
    written(
        tmp_path,
        space_with(
            STRATEGY,
            STEP,
            "compression.rule: {type: categorical, choices: [graded], when: {compression.strategy: balanced}}",
            "compression.sharpness: {type: float, low: 1, high: 2, when: {compression.rule: graded}}",
        ),
    )
    fixed = load_space(child(tmp_path, "fixed: {compression.strategy: feedback}\n", "space.yaml"))
    assert fixed.parameters == {"compression.feedback.risk": Float(low=0.2, high=1.0)}
    narrow = "parameters:\n  compression.strategy: {type: categorical, choices: [balanced, waterfill]}\n"
    narrowed = load_space(child(tmp_path, narrow, "space.yaml"))
    assert sorted(narrowed.parameters) == ["compression.rule", "compression.sharpness", "compression.strategy"]


def test_an_inherited_fault_is_reported_where_it_stands(tmp_path: Path) -> None:
    path = written(tmp_path, space_with("loss.comitment: {type: float, low: 1, high: 2}"))
    with pytest.raises(ConfigError) as error:
        load_space(child(tmp_path, "fixed: {training.epochs: 3}\n", "space.yaml"))
    assert f"{path}, line 3" in str(error.value)
    assert "did you mean 'commitment'" in str(error.value)


@pytest.mark.parametrize(
    ("text", "parent", "parts"),
    [
        ("fixed: {training.epochs: 0}\n", "quick", ["child.yaml, line 3", "epochs"]),
        ("remove: [loss.comitment]\n", "adaptive_compression", ["line 3", "did you mean 'loss.commitment'"]),
        ("remove:\n  - compression.rule\n  - x\n", "quick", ["line 5", "'x' is not in the space"]),
        (
            "remove: [compression.rule]\nfixed: {compression.rule: graded}\n",
            "quick",
            ["line 3", "both removed and given"],
        ),
        ("remove: 3\n", "quick", ["line 3", "remove must list"]),
        ("fixed: {}\n", "adaptive_compresion", ["line 2", "extends", "did you mean 'adaptive_compression'"]),
        ("fixed: {}\n", "missing.yaml", ["line 2", "extends", "missing.yaml: no such file"]),
        ("fixed: {}\n", "child.yaml", ["line 2", "'child.yaml' is this space, or extends it in turn"]),
        ("fixed: {}\n", "[quick]", ["line 2", "extends must name one"]),
        (
            "remove: [compression.strategy, compression.rule, compression.capacity, compression.bounds.L0.span, "
            "training.learning_rate]\n",
            "quick",
            ["no parameter is left to search"],
        ),
        (
            "remove: [quantizer.kind]\n",
            "full",
            ["full.yaml, line", "'quantizer.kind' is not a parameter of this space"],
        ),
        (
            "fixed: {compression.strategy: balanced}\nparameters:\n  " + STEP + "\n",
            "adaptive_compression",
            ["line 5", "never counts, because compression.strategy is fixed at 'balanced'"],
        ),
    ],
)
def test_a_fault_of_inheritance_names_its_line(tmp_path: Path, text: str, parent: str, parts: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        load_space(child(tmp_path, text, parent))
    for part in parts:
        assert part in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_spaces_that_extend_each_other_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("description: a\nextends: b.yaml\n")
    (tmp_path / "b.yaml").write_text("description: b\nextends: a.yaml\n")
    with pytest.raises(ConfigError, match=r"b.yaml, line 2: extends: 'a.yaml' is this space, or extends it in turn"):
        load_space(tmp_path / "a.yaml")


# ---------------------------------------------------------------- refusals

LEARNING_RATE = "training.learning_rate: {type: float, low: 1e-4, high: 1e-2}"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (space_with("training.epoch: {type: int, low: 1, high: 2}"), ["line 3", "did you mean 'epochs'"]),
        (space_with("loss.comitment: {type: float, low: 1, high: 2}"), ["line 3", "did you mean 'commitment'"]),
        (space_with("loss.commitment: {type: flaot, low: 1, high: 2}"), ["line 3", "did you mean 'float'"]),
        (space_with("loss.commitment: {type: [1], low: 1, high: 2}"), ["line 3", "unknown type"]),
        (space_with("loss.commitment: {type: float, lo: 1, high: 2}"), ["line 3", "loss.commitment", "low"]),
        (space_with("loss.commitment: {type: float, low: 1, high: 2, logg: on}"), ["line 3", "did you mean 'log'"]),
        (space_with("loss.commitment: {type: float, low: 2, high: 1}"), ["line 3", "low must be below high"]),
        (space_with("loss.commitment: {type: float, low: 1, high: 1}"), ["line 3", "belongs under 'fixed'"]),
        (space_with("loss.commitment: {type: float, low: 0, high: 1, log: true}"), ["line 3", "log needs low above 0"]),
        (space_with("loss.commitment: {type: float, low: 0, high: .inf}"), ["line 3", "finite"]),
        (space_with("loss.commitment: {type: float, low: 0, high: 1, step: 0.3}"), ["line 3", "must divide"]),
        (space_with("loss.commitment: {type: float, low: 0, high: 1, step: 2}"), ["line 3", "must divide"]),
        (space_with("loss.commitment: {type: float, low: 0, high: 1, step: -1}"), ["line 3", "step", "greater than 0"]),
        (space_with("loss.commitment: {type: float, low: 1, high: 2, step: 1, log: true}"), ["exclude each other"]),
        (space_with("loss.commitment: {type: float, low: -1, high: 1}"), ["line 3", "loss.commitment", "-1"]),
        (space_with("training.batch_size: {type: int, low: 1.5, high: 9}"), ["line 3", "integer", "1.5"]),
        (space_with("training.batch_size: {type: int, low: 4, high: 9, step: 2}"), ["line 3", "must divide"]),
        (space_with("training.batch_size: {type: float, low: 64, high: 128}"), ["line 3", "batch_size", "integer"]),
        (space_with("compression.rule: {type: categorical, choices: []}"), ["line 3", "at least 1"]),
        (space_with("compression.rule: {type: categorical, choices: [graded, graded]}"), ["line 3", "listed twice"]),
        (space_with("compression.rule: {type: categorical, choices: [graded, spinlok]}"), ["line 3", "spinlok"]),
        (space_with("compression.rule: {type: categorical, choices: graded}"), ["line 3", "choices"]),
        (
            space_with(LEARNING_RATE, "compression.strategy: {type: categorical, choices: [balanced, varianse]}"),
            ["line 4", "unknown strategy 'varianse'", "did you mean 'variance'"],
        ),
        (space_with("prepare.normalization: {type: categorical, choices: [robust]}"), ["line 3", "data is fixed"]),
        (space_with("seed: {type: int, low: 1, high: 9}"), ["line 3", "luck"]),
        (space_with("training.epochs: {type: int, low: 1, high: 9}"), ["line 3", "as long as the baseline"]),
        (space_with("loss.commitment: 3"), ["line 3", "expected a mapping with type"]),
        (space_with(LEARNING_RATE, LEARNING_RATE), ["line 4", "given twice"]),
        (
            space_with("compression.bounds.L0.low: {type: float, low: 0.5, high: 1.5}"),
            ["line 3", "low must be below high", "1.5 and 1"],
        ),
        (
            space_with(
                "compression.bounds.L0.low: {type: float, low: 0.2, high: 0.6}",
                "compression.bounds.L0.high: {type: float, low: 0.5, high: 2.0}",
            ),
            ["low must be below high", "0.6 and 0.5"],
        ),
        (
            space_with(
                "compression.bounds.L1.span: {type: float, low: 1.2, high: 2.0}",
                "compression.min_ratio_range: {type: float, low: 1.0, high: 1.5}",
            ),
            ["line 4", "goes up to 1.5", "narrowest bounds allow 1.2"],
        ),
        (
            space_with(
                "compression.bounds.L1.span: {type: float, low: 1.2, high: 2.0}",
                "compression.bounds.L1.high: {type: float, low: 1.2, high: 2.0}",
            ),
            ["line 3", "not both"],
        ),
        (
            space_with(LEARNING_RATE) + "fixed: {training.learning_rate: 0.1}\n",
            ["line 4", "both fixed and a parameter"],
        ),
        (space_with(LEARNING_RATE) + "fixed:\n  training.epochs: 0\n", ["line 5", "epochs", "0"]),
        (space_with(LEARNING_RATE) + "fixed:\n  compression.strategy: no\n", ["line 5", "compression.strategy"]),
        (space_with(LEARNING_RATE) + "fixed:\n  prepare.dataset: a.h5\n", ["line 5", "data is fixed"]),
        (space_with(LEARNING_RATE) + "fixed: 3\n", ["line 4", "fixed must map"]),
        (
            space_with(STRATEGY, STEP.replace("feedback}", "feedbak}")),
            ["line 4", "no choice", "did you mean 'feedback'"],
        ),
        (
            space_with(STRATEGY, STEP.replace("compression.strategy:", "compression.strategi:")),
            ["line 4", "not a parameter of this space", "did you mean 'compression.strategy'"],
        ),
        (space_with(STEP), ["line 3", "'compression.strategy' is not a parameter of this space"]),
        (space_with(STRATEGY, STEP.replace("feedback}", "[]}")), ["line 4", "at least one of its choices"]),
        (space_with(STRATEGY, STEP.replace("{compression.strategy: feedback}", "{}")), ["line 4", "when"]),
        (space_with(STRATEGY, STEP.replace("{compression.strategy: feedback}", "3")), ["line 4", "when"]),
        (
            space_with(
                "loss.commitment: {type: float, low: 1, high: 2}",
                "model.hidden: {type: int, low: 1, high: 2, when: {loss.commitment: 1}}",
            ),
            ["line 4", "loss.commitment is a number"],
        ),
        (
            space_with(
                "model.decoder: {type: categorical, choices: [shared], when: {model.levels: parallel}}",
                "model.levels: {type: categorical, choices: [parallel], when: {model.decoder: shared}}",
            ),
            ["line 3", "model.decoder depends on model.levels, which depends on model.decoder"],
        ),
        (space_with(LEARNING_RATE) + "remove: [loss.commitment]\n", ["line 4", "this space extends none"]),
        (space_with(LEARNING_RATE) + "parametres: {}\n", ["line 4", "did you mean 'parameters'"]),
        ("description: none\nparameters: {}\n", ["line 2", "at least one setting"]),
        ("description: none\n", ["at least one setting"]),
        ("description: a bell \x07\n", ["not valid YAML", "unacceptable character"]),
        ("description: none\nextends: quick\n  of these\n", ["line 2", "no search space 'quick of these'"]),
        ("parameters: {}\n", ["description must say"]),
        ("- 1\n", ["expected a mapping"]),
        ("", ["expected a mapping"]),
    ],
)
def test_a_refusal_names_file_line_and_reason(tmp_path: Path, text: str, parts: list[str]) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as error:
        load_space(path)
    message = str(error.value)
    assert message.startswith(str(path))
    assert len(message.splitlines()) == 1
    for part in parts:
        assert part in message


def test_an_unknown_preset_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'adaptive_compression'"):
        load_space("adaptive_compresion")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load_space(tmp_path / "absent.yaml")


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6)
settings_names = st.sampled_from(
    [
        "compression",
        "compression.bounds.L0",
        "compression.bounds.L0.low",
        "compression.bounds.L0.span",
        "compression.min_ratio_range",
        "compression.strategy",
        "model.levels",
        "training.batch_size",
        "training.epochs",
    ]
)
options = st.sampled_from(["low", "high", "log", "step", "choices"])
conditions = st.dictionaries(settings_names, scalars | st.lists(scalars, max_size=2), max_size=2) | scalars
described = st.builds(
    lambda kind, given_options, when: {"type": kind, **given_options, **when},
    st.sampled_from(["float", "int", "categorical"]),
    st.dictionaries(options, scalars | st.lists(scalars, max_size=3), max_size=5),
    st.fixed_dictionaries({}, optional={"when": conditions}),
)
spaces = st.fixed_dictionaries(
    {
        "description": st.just("anything"),
        "parameters": st.dictionaries(settings_names, described | scalars, min_size=1),
    },
    optional={
        "fixed": scalars | st.dictionaries(settings_names | scalars, scalars | st.dictionaries(options, scalars)),
        "extends": scalars | st.sampled_from([*preset_names(), "space.yaml"]),
        "remove": scalars | st.lists(settings_names | scalars, max_size=3),
    },
)


@settings(in_one_file, max_examples=inputs(300))
@given(spaces)
@bounded
def test_any_space_is_read_or_refused(tmp_path: Path, tree: Any) -> None:
    path = written(tmp_path, yaml.safe_dump(tree))
    try:
        space = load_space(path)
    except ConfigError:
        return
    lowest = {name: parameter.probes()[0] for name, parameter in space.parameters.items()}
    assert isinstance(space.to_config(TrialConfig(), lowest), TrialConfig)


# ---------------------------------------------------------------- the command


def test_without_a_name_the_presets_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    main([])
    printed = capsys.readouterr().out
    for name in preset_names():
        assert name in printed


def test_a_space_is_shown_as_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    main(["quick"])
    printed = capsys.readouterr().out
    for part in ("compression.strategy", "1.6 .. 10", "log", "training.epochs", "fixed", "continuous"):
        assert part in printed


def test_conditional_parameters_are_shown_below_their_condition(capsys: pytest.CaptureFixture[str]) -> None:
    main(["full"])
    printed = capsys.readouterr().out
    assert re.search(r"\nwhen quantizer.kind is fsq:\n +quantizer.fsq_levels +2 .. 5 +step 1 +4 *\n\n", printed)
    space = load_space("full")
    sizes = [len(branch.names) for branch in space.branches()]
    assert f"continuous, {min(sizes)} to {max(sizes)} of {len(space.parameters)} parameters at a time" in printed


def test_the_size_of_a_finite_space_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = space_with(STRATEGY, STEP.replace("high: 1.0", "high: 1.0, step: 0.2"))
    main([str(written(tmp_path, text))])
    assert "7 combinations, 1 to 2 of 2 parameters at a time" in capsys.readouterr().out


def test_json_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    main(["quick", "--json"])
    shown = json.loads(capsys.readouterr().out)
    space = load_space("quick")
    assert shown["combinations"] is None
    assert list(shown["parameters"]) == list(space.parameters)
    rule = shown["parameters"]["compression.rule"]
    assert (rule["type"], rule["choices"]) == ("categorical", ["graded", "spinlock"])
    assert rule["when"] == {"compression.strategy": ["variance", "dimensionality", "information", "balanced"]}
    assert shown["fixed"] == space.fixed


def test_a_file_that_cannot_be_run_is_not_shown(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="low must be below high"):
        main([str(written(tmp_path, space_with("loss.commitment: {type: float, low: 2, high: 1}")))])
