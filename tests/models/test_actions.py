from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from stillframe.errors import CheckpointError, Flaw, Internal, Unprocessable
from stillframe.models.actions import ActionBins, ActionScale, Statistics

BINS = ActionBins(text_vocab_size=32000)
UNIT = st.floats(-1, 1)


def entry(dim: int = 7, **changes: Any) -> dict[str, Any]:
    """One data set's statistics; the last dimension passes through."""
    action = {"q01": [-0.5] * dim, "q99": [1.5] * dim, "mask": [True] * (dim - 1) + [False]}
    return {"action": {**action, **changes}}


@pytest.mark.parametrize(
    ("token", "value"), [(31999, -254 / 255), (31872, 0.0), (31745, 254 / 255), (31744, 254 / 255)]
)
def test_known_tokens_decode_to_known_values(token: int, value: float) -> None:
    """The highest id is the lowest value; the two lowest ids share the highest."""
    assert_allclose(BINS.decode(np.array([token])), [value], rtol=0, atol=1e-15)


@pytest.mark.parametrize("token", [0, 31743, 32000, 32063, -1])
def test_an_id_that_is_no_action_has_no_value(token: int) -> None:
    """The reference takes text and padding to the nearest end; a broken network would go at full speed."""
    with pytest.raises(Internal, match=f"the token {token}, which is text; an action's ids are 31744 to 31999") as no:
        BINS.decode(np.array([31999, token]))
    assert (no.value.code, no.value.flaw) == ("not-an-action", Flaw.NO_ACTION_TOKEN)


def test_every_action_decodes_as_in_the_reference() -> None:
    """All 256 ids: the reference's clip takes the lowest of them to its neighbour's value."""
    ids = np.arange(31744, 32000)

    assert BINS.ids == range(31744, 32000)
    assert_array_equal(BINS.decode(ids), BINS.centres[np.clip(32000 - ids - 1, 0, 254)])


@pytest.mark.parametrize(("value", "token"), [(-1, 31999), (-9, 31999), (0, 31872), (1, 31744), (9, 31744)])
def test_known_values_encode_to_known_tokens(value: float, token: int) -> None:
    """The ends are clipped to; zero is the middle bin."""
    assert BINS.encode(np.array([value])) == [token]


@given(token=st.integers(31745, 31999))
def test_tokens_survive_decoding_and_encoding(token: int) -> None:
    """Every action id but the doubled last comes back from its value."""
    assert BINS.encode(BINS.decode(np.array([token]))) == [token]


@given(value=UNIT)
def test_values_survive_encoding_and_decoding_within_half_a_bin(value: float) -> None:
    """A value comes back within half a bin."""
    back = BINS.decode(BINS.encode(np.array([value])))[0]

    assert abs(back - value) <= 1 / 255 + 1e-12


@given(low=UNIT, high=UNIT)
def test_higher_values_never_have_higher_ids(low: float, high: float) -> None:
    """Ids fall as values rise."""
    first, second = BINS.encode(np.array(sorted((low, high))))

    assert first >= second


@given(
    values=st.lists(UNIT, min_size=3, max_size=3),
    q01=st.floats(-10, 10),
    span=st.floats(1e-3, 20),
    gripper=st.floats(-3, 3),
)
def test_normalising_undoes_unnormalising(values: list[float], q01: float, span: float, gripper: float) -> None:
    """There and back again, with the unmasked dimension untouched on both ways."""
    scale = ActionScale(np.full(4, q01), np.full(4, q01 + span), np.array([True, True, True, False]))
    unit = np.array([*values, gripper])
    actions = scale.unnormalise(unit)

    assert_allclose(scale.normalise(actions), unit, rtol=0, atol=1e-11)
    assert actions[3] == scale.normalise(unit)[3] == gripper


def test_unnormalising_reaches_q01_and_q99() -> None:
    """-1 is q01, +1 is q99, 0 the middle; the gripper passes through."""
    scale = Statistics({"a": entry(2)}).scales["a"]

    assert_array_equal(scale.unnormalise(np.array([[-1, -1], [1, 1], [0, 0]])), [[-0.5, -1], [1.5, 1], [0.5, 0]])


def test_normalising_clips_beyond_the_statistics() -> None:
    """What a demonstration did outside q01..q99 becomes the end of the range; unmasked dimensions are left alone."""
    scale = Statistics({"a": entry(2)}).scales["a"]

    assert_array_equal(scale.normalise(np.array([[-7, -7], [7, 7]])), [[-1, -7], [1, 7]])


def test_a_missing_mask_scales_everything() -> None:
    """Statistics of old checkpoints have no mask."""
    statistics = {"a": {"action": {"q01": [0.0, 0.0], "q99": [2.0, 4.0]}}}

    assert_array_equal(Statistics(statistics).scales["a"].unnormalise(np.ones(2)), [2, 4])


def test_the_only_key_is_the_default() -> None:
    """One data set needs no key; its own name works as well."""
    statistics = Statistics({"bridge_orig": entry()})

    assert statistics.default_key == statistics.resolve(None) == statistics.resolve("bridge_orig") == "bridge_orig"
    assert statistics.action_dim == 7


def test_several_data_sets_need_a_key() -> None:
    """Without a key, the choices are listed and the field is pointed at."""
    statistics = Statistics({"fractal": entry(), "bridge_orig": entry()})

    assert statistics.default_key is None
    with pytest.raises(Unprocessable) as caught:
        statistics.resolve(None)
    assert str(caught.value) == "'unnorm_key' is missing; choose one of bridge_orig, fractal."
    assert (caught.value.code, caught.value.pointer) == ("unknown-unnorm-key", "/unnorm_key")


def test_an_unknown_key_lists_choices_and_guesses() -> None:
    """A near miss is answered with what was probably meant."""
    with pytest.raises(Unprocessable) as caught:
        Statistics({"fractal": entry(), "bridge_orig": entry()}).resolve("bridge")
    text = str(caught.value)

    assert text == "There are no statistics 'bridge'; choose one of bridge_orig, fractal. Did you mean 'bridge_orig'?"


def test_an_empty_key_is_no_key() -> None:
    """Only a missing key means the default: an empty one names statistics that are not there."""
    with pytest.raises(Unprocessable, match="There are no statistics ''; choose one of bridge_orig"):
        Statistics({"bridge_orig": entry()}).resolve("")


@pytest.mark.parametrize(
    "spoilt",
    [{}, {"action": {"q99": [1.0]}}, {"action": {"q01": ["low"], "q99": [1.0]}}, {"action": None}, [1], None],
)
def test_statistics_without_quantiles(spoilt: Any) -> None:
    """An entry without q01 and q99 is named, with what was expected of it."""
    with pytest.raises(CheckpointError, match=r"statistics 'jaco': expected action\.q01 and action\.q99, lists of num"):
        Statistics({"jaco": spoilt})


TABLE = {"q01": [[0.0]], "q99": [[1.0]], "mask": [[True]]}


@pytest.mark.parametrize("changes", [{"q01": [0.0]}, {"mask": [True]}, {"q01": 0.0, "q99": 1.0, "mask": True}, TABLE])
def test_statistics_of_uneven_lengths(changes: dict[str, Any]) -> None:
    """q01, q99 and mask have one length."""
    with pytest.raises(CheckpointError, match="statistics 'jaco': "):
        Statistics({"jaco": entry(**changes)})


def test_data_sets_of_different_dimensions() -> None:
    """A decoder emits actions of one length, so two lengths are refused."""
    with pytest.raises(CheckpointError, match=re.escape("differ in the length of an action: {'a': 7, 'b': 14}")):
        Statistics({"a": entry(7), "b": entry(14)})


def test_no_data_sets() -> None:
    """An empty table says what to put beside the weights."""
    with pytest.raises(CheckpointError, match=r"put a dataset_statistics\.json beside its weights"):
        Statistics({})


@pytest.mark.parametrize("name", ["q01", "q99"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), 1e300, -1e300, 10**400, 1.1e6])
def test_quantiles_are_finite_and_of_a_robots_size(name: str, value: float) -> None:
    """Data set, dimension and value, masked or not: the numbers stand at /v1/models as well."""
    for dimension in (2, 6):
        values = [-0.5 if name == "q01" else 1.5] * 7
        values[dimension] = value
        with pytest.raises(CheckpointError) as caught:
            Statistics({"jaco": entry(**{name: values})})
        assert f"statistics 'jaco': {name} of dimension {dimension} is " in str(caught.value)
        assert "expected a number of at most 1e+06" in str(caught.value)
        assert len(str(caught.value)) < 600


@pytest.mark.parametrize("value", [True, False, "0.5", None])
@pytest.mark.parametrize("name", ["q01", "q99"])
def test_statistics_are_numbers(name: str, value: object) -> None:
    """JSON's true is none, and neither is a number in quotes."""
    with pytest.raises(CheckpointError, match=rf"lists of numbers; {name} of dimension 1 is {value!r}"):
        Statistics({"jaco": entry(**{name: [1.0, value, 1.0, 1.0, 1.0, 1.0, 1.0]})})


@pytest.mark.parametrize("mask", [[1] * 7, ["true"] * 7, "true", None, {}, [True] * 6 + [None]])
def test_a_mask_is_true_or_false(mask: object) -> None:
    """Every word is true to Python, 'false' among them."""
    with pytest.raises(CheckpointError, match=r"statistics 'jaco': mask is .*; expected a list of true and false"):
        Statistics({"jaco": entry(mask=mask)})


def test_swapped_quantiles_are_refused() -> None:
    """One dimension is enough to mirror the arm: which, and both values."""
    swapped = entry(q01=[-0.5, 1.5, *[-0.5] * 5], q99=[1.5, -0.5, *[1.5] * 5])

    with pytest.raises(
        CheckpointError, match=r"statistics 'b': dimension 1 has q01 1\.5 above q99 -0\.5; expected the lo"
    ):
        Statistics({"a": entry(), "b": swapped})


def test_what_passes_through_is_in_any_order() -> None:
    """Its quantiles scale nothing."""
    statistics = Statistics({"a": entry(q01=[-0.5] * 6 + [1.0], q99=[1.5] * 6 + [0.0])})

    assert statistics.scales["a"].unnormalise(np.zeros(7))[6] == 0


def test_an_arm_that_cannot_move_is_refused() -> None:
    """Whatever the gripper does."""
    frozen = entry(q01=[0.0] * 6 + [0.0], q99=[0.0] * 6 + [1.0])

    with pytest.raises(
        CheckpointError, match=r"statistics 'jaco': q01 and q99 are equal in every dimension that is scal"
    ):
        Statistics({"jaco": frozen})


@pytest.mark.filterwarnings("error")
def test_a_constant_dimension_is_fine_and_quiet() -> None:
    """Three of jaco_play's are: such a dimension is its constant, and in training it was nought."""
    scale = Statistics({"jaco_play": entry(q01=[-0.5, 0.25, *[-0.5] * 5], q99=[1.5, 0.25, *[1.5] * 5])}).scales[
        "jaco_play"
    ]
    back = scale.normalise(np.array([[0.5, 0.25, 0, 0, 0, 0, 1], [0.5, 9.0, 0, 0, 0, 0, 1]]))

    assert scale.unnormalise(np.array([0.3, -0.7, 0, 0, 0, 0, 1]))[1] == 0.25
    assert back[:, 1].tolist() == [0, 0]
    assert BINS.encode(back[0])[1] == 31872


@pytest.mark.filterwarnings("error")
def test_a_span_next_to_nothing_is_quiet() -> None:
    """What lies outside of it is an end of it."""
    scale = ActionScale(np.array([0.0]), np.array([5e-324]), np.array([True]))

    assert scale.normalise(np.array([[1.0], [-1.0], [0.0]])).tolist() == [[1], [-1], [-1]]


def test_a_name_that_cannot_be_printed_is_written_out() -> None:
    """An error is one line, whatever a data set is called."""
    with pytest.raises(CheckpointError) as caught:
        Statistics({"a\nb" + "c" * 5000: {}})

    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600
