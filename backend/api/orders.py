"""What an order for a training asks for, checked before anything is started or measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backend.api.dependencies import Parts
from backend.api.schemas import JobIn
from backend.backbones import Offer, check_fits
from wara.errors import InputError

if TYPE_CHECKING:
    from wara.training.recipe import Recipe


def checked_recipe(order: JobIn, offer: Offer, parts: Parts) -> Recipe:
    """Return the recipe of an order.

    Raises:
        InputError: an option that cannot be used, or one that this backbone or this server does not allow.
    """
    from wara.training.recipe import Recipe

    fixed = sorted({"method", "preset", "backbone"} & order.recipe.keys())
    if fixed:
        raise InputError(
            "These options stand beside the recipe, not in it",
            seen=", ".join(fixed),
            remedy="Send them as members of the order itself.",
            code="recipe-unknown-option",
        )
    recipe = Recipe.from_preset(order.preset, method=order.method, backbone=offer.info.spec, **order.recipe)
    offered = sorted({device.type for device in parts.devices.found()})
    if recipe.device not in ("auto", *offered):
        raise InputError(
            "This server does not offer the device of the recipe",
            seen=recipe.device,
            remedy=f"Leave the device out, or use {' or '.join(offered)}.",
            code="recipe-device",
        )
    check_fits(parts.networks, offer, recipe)
    return recipe
