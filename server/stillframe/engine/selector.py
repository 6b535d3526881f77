"""Opens the selector that a deployment names, or says why it does not fit what is served.

Knows settings and what a model is; no frame.
"""

from __future__ import annotations

from stillframe.errors import ConfigError
from stillframe.models.base import PolicyModel
from stillframe.reuse.selector import PatchSelector, SelectorForm
from stillframe.reuse.selector_file import check_form, load_selector
from stillframe.reuse.settings import AdaptiveSettings


def form_of(model: PolicyModel, settings: AdaptiveSettings) -> SelectorForm:
    """What a selector has to be trained for, to be served by this checkpoint and these settings."""
    config = model.decoder.config
    return SelectorForm(
        width=config.hidden_size,
        layers=config.num_hidden_layers,
        cameras=tuple(model.info.cameras),
        relevance=settings.relevance,
        relevance_layers=tuple(settings.relevance_layers),
    )


def open_selector(model: PolicyModel, settings: AdaptiveSettings) -> PatchSelector | None:
    """The selector on the model's device; None: none is named.

    Raises ConfigError for one that was trained for another checkpoint or other settings, CheckpointError for a file
    that holds none.
    """
    if settings.selector is None:
        return None
    if settings.criterion != "embedding":
        raise ConfigError(
            f"reuse.adaptive.criterion is '{settings.criterion}', and reuse.adaptive.selector compares the decoder's "
            "input rows: set the criterion to embedding, or the selector to null"
        )
    selector = load_selector(settings.selector, model.device)
    check_form(settings.selector, selector.form, form_of(model, settings))
    return selector
