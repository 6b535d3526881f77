from __future__ import annotations

import weakref
from typing import NoReturn

import numpy as np
import pytest
import torch

from stillframe.engine.device import clear_tracebacks, out_of_memory, to_request_error
from stillframe.errors import DeadlineExceeded, Internal, Overloaded

CPU, GPU = torch.device("cpu"), torch.device("cuda")
NO_ROOM = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def a_cpus() -> Exception:
    """What torch raises for more than there is."""
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**50)
    return error.value


@pytest.mark.parametrize("error", [NO_ROOM, MemoryError(), a_cpus()], ids=["gpu", "python", "cpu"])
def test_no_memory_is_no_room(error: Exception) -> None:
    """Whichever memory it was: come again; torch's own words stay here."""
    answer = to_request_error(error)

    assert out_of_memory(error)
    assert isinstance(answer, Overloaded)
    assert (answer.code, answer.retry_after_s, answer.__cause__) == ("out-of-memory", 1.0, error)
    assert "alloc" not in answer.detail


@pytest.mark.parametrize("error", [RuntimeError("shapes do not match"), ValueError("out of memory"), KeyError()])
def test_what_else_goes_wrong_is_our_fault(error: Exception) -> None:
    """The cause stays with the error, and out of its words."""
    answer = to_request_error(error)

    assert isinstance(answer, Internal)
    assert (answer.code, answer.__cause__) == ("internal", error)
    assert "shapes" not in answer.detail


def test_what_is_meant_for_the_client_is_told_to_it() -> None:
    """As it is."""
    error = DeadlineExceeded("deadline-exceeded", "too late")

    assert to_request_error(error) is error


def fail() -> NoReturn:
    """Fail twice, with something large at hand."""
    picture = np.zeros((4, 4))
    held.append(weakref.ref(picture))
    try:
        raise KeyError(picture.shape)
    except KeyError as error:
        raise DeadlineExceeded("deadline-exceeded", "too late") from error


held: list[weakref.ref[np.ndarray]] = []


def test_an_error_that_is_kept_keeps_nothing_else() -> None:
    """Neither do the errors behind it: pictures and tensors are gone as soon as it is let go."""
    try:
        fail()
    except DeadlineExceeded as error:
        kept = error
    assert held[-1]() is not None
    clear_tracebacks(kept, CPU)

    assert held[-1]() is None
    assert isinstance(kept.__cause__, KeyError)


@pytest.mark.parametrize(
    ("error", "device", "emptied"), [(NO_ROOM, GPU, 1), (NO_ROOM, CPU, 0), (RuntimeError("no"), GPU, 0)]
)
def test_a_gpu_gets_its_pieces_back(
    monkeypatch: pytest.MonkeyPatch, error: Exception, device: torch.device, emptied: int
) -> None:
    """When its memory ran out; a cache that is emptied for nothing costs time."""
    calls: list[None] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: calls.append(None))
    clear_tracebacks(error, device)

    assert len(calls) == emptied
