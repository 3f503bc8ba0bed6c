"""Versions and labels of images: what a label means is written down here, and nowhere else.

A version is a part of an image's name (`el9:2026-11-20`), which never changes its meaning. A label (`el9:stable`) is a
word that people move from one image to the next. Hosts know nothing of labels: they are replaced by names before a
host hears of a request, so that a label means the same everywhere, also for a host that was away.
"""

from __future__ import annotations

from typing import Any

from maglica.actions.image import ImageLabel, ImagePromote, ImageRollback
from maglica.client_worker.now import Now
from maglica.client_worker.placement import place
from maglica.client_worker.revealing import Revealing
from maglica.client_worker.store import Store
from maglica.declare import Action, nearest
from maglica.errors import Refused

Value = dict[str, Any]

# Before a label is moved, hosts are asked whether there is such an image.
ASK_FIRST = (ImageLabel.NAME, ImagePromote.NAME)


def family(image: str) -> str:
    """What versions of an image have in common: el9 of el9:2026-11-20 and of el9.original."""
    bare = image.partition(":")[0]
    for ending in (".original", "_original", "-original"):
        bare = bare.removesuffix(ending)
    return bare


def reference(label: str, image: str) -> str:
    """A label in full: el9:stable of `stable` and an image of that family."""
    return label if ":" in label else f"{family(image)}:{label}"


def wanted(action: ImageLabel | ImagePromote, image: str) -> str:
    """The label that somebody wants to move or to take away, in full."""
    return reference(action.as_ if isinstance(action, ImageLabel) else action.to, image)


def meant(action: Action, known: dict[str, str]) -> Action:
    """The same action with labels replaced by the images that they mean."""
    values = action.values()
    names = [name for name, field in action.FIELDS.items() if field.values_of == "image" and values[name] in known]
    if not names:
        return action
    return type(action)(**{**values, **{name: known[values[name]] for name in names}})


def of(image: str, known: dict[str, str]) -> list[str]:
    """The labels that mean an image: without their family where it is the image's own."""
    return sorted(label.removeprefix(f"{family(image)}:") for label, name in known.items() if name == image)


def refuse_label(name: str, known: dict[str, str]) -> None:
    """An image that is called like a label would be found by neither."""
    if name in known:
        what, hint = f"{name} is a label", "call the image otherwise"
        instead = Refused("already_exists", what, hint)
        raise Revealing(instead.code, f"{what}, of {known[name]}", hint, about=[(known[name], None)], instead=instead)


def refuse_labelled(name: str, known: dict[str, str]) -> None:
    """What a label means must not go away under it."""
    labels = sorted(label for label, image in known.items() if image == name)
    if labels:
        raise Refused(
            "protected",
            f"{labels[0]} means {name}",
            f"`maglica image promote` or `image rollback` moves it, `image label {name} --as={labels[0]} --remove`"
            " takes it away",
        )


def put(want: ImageLabel | ImagePromote, seen: place.Seen, store: Store, by: str, now: Now) -> Value:
    """Let a label mean an image from now on."""
    known = store.labels.all()
    image = known.get(want.name, want.name)
    label = wanted(want, image)
    if isinstance(want, ImageLabel) and want.remove:
        return _forget(label, known, store)
    if label in seen.vms:
        raise Refused("already_exists", f"{label} is an image", "a label must not be called like one")
    if image not in seen.vms:
        raise place.no_image(image, seen.surveys, seen.missing)
    before = known.get(label)
    if before != image:
        store.labels.put(label, image, now.text, by)
    return {"name": label, "image": image, "before": before, "changed": before != image}


def _forget(label: str, known: dict[str, str], store: Store) -> Value:
    if label in known:
        store.labels.forget(label)
    return {"name": label, "image": None, "before": known.get(label), "changed": label in known}


def roll_back(want: ImageRollback, store: Store) -> Value:
    """Let a label mean again what it meant before."""
    known = store.labels.all()
    if want.name not in known:
        close = nearest(want.name, list(known))
        hint = f"did you mean {close}?" if close else "`maglica image list` shows them"
        raise Refused("unknown_entity", f"there is no label {want.name}", hint)
    before, image = known[want.name], store.labels.previous(want.name)
    if image is None:
        raise Refused("wrong_state", f"{want.name} has never meant another image than {before}")
    store.labels.roll_back(want.name)
    return {"name": want.name, "image": image, "before": before, "changed": True}
