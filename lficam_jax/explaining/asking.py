"""What people ask in names, as what methods are asked in numbers: classes, labels and targets."""

import os
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
from jaxtyping import Int

from lficam_jax.errors import UserError, brief, check_whole, legible, nearest
from lficam_jax.methods import check_options
from lficam_jax.methods.targets import Output, Several, Target, Top, as_target, for_images


@dataclass(frozen=True)
class Asked:
    """What the maps of images are asked: the same questions of each, in the same order.

    Attributes:
      targets: of numbers, a value for each image; None: the most probable classes.
      top: so many of these.
    """

    targets: tuple[Target, ...] | None = None
    top: int = 1

    @property
    def predicted(self) -> bool:
        """Whether the predicted class is asked about, and no other."""
        return self.targets is None and self.top == 1

    def class_of(self, place: int, row: int, chosen: Int[np.ndarray, "n t"]) -> int | None:
        """Returns the class that a map of an image is asked about; None if it is no one class."""
        if self.targets is None:
            return int(chosen[row, place])
        target = self.targets[place]
        return int(np.asarray(target.index)[row]) if isinstance(target, Output) else None

    def title(self, place: int, row: int, classes: Sequence[str]) -> str:
        """Says what a map of an image is asked about; empty for a class."""

        def name(index: Any) -> str:
            return repr(classes[int(index)]) if classes else f"output {int(index)}"

        if self.targets is None or (classes and isinstance(self.targets[place], Output)):
            return ""
        of_row: Target = jax.tree.map(lambda leaf: np.asarray(leaf)[row], self.targets[place])
        return of_row.title(name)


def asked_of(target: Any, classes: tuple[str, ...], count: int) -> Asked:
    """Returns what people ask of so many images: names become numbers.

    Args:
      target: None, a class by number or name, one for each image, a `Target`, a function, `Several`
        of these or a list with such in it, or `Top`.
      classes: names, in label order.
      count: of the images.

    Raises:
      UserError: for a class that is unknown, or what is no target.
    """
    if target is None or isinstance(target, Top):
        return Asked(top=1 if target is None else target.k)
    if isinstance(target, list | tuple) and any(
        isinstance(one, Target) or callable(one) for one in target
    ):
        target = Several(*target)  # classes alone are one for each image
    several = target.targets if isinstance(target, Several) else (target,)
    return Asked(tuple(_numbered(one, classes, count) for one in several))


def _numbered(target: Any, classes: tuple[str, ...], count: int) -> Target:
    target = as_target(target)
    found: dict[str, Any] = {}
    for name in target.classes:
        numbers = indices("target", getattr(target, name), classes, count)
        if numbers is None or None in numbers:
            raise UserError("target: give a class for each image, or none at all")
        found[name] = np.array(numbers, np.int32)
    return for_images(replace(target, **found) if found else target, count)


def indices(what: str, given: Any, classes: tuple[str, ...], count: int) -> list[Any] | None:
    """Returns the class index of each image of names and numbers; one stands for all images."""
    if given is None:
        return None
    each = each_of(what, given, count)
    return [None if one is None else _index(what, one, classes) for one in each]


def each_of(what: str, given: Any, count: int) -> list[Any]:
    """Returns what was given for each image; what is no list stands for all of them.

    Raises:
      UserError: for a list of another length.
    """
    try:
        each = [given] * count if isinstance(given, str | Mapping | Set) else list(given)
    except TypeError:
        each = [given] * count
    _check_length(what, each, count)
    return each


def _index(what: str, given: Any, classes: tuple[str, ...]) -> int:
    if isinstance(given, str) and (legible(given) in classes or not given.isdecimal()):
        if legible(given) not in classes:
            known = nearest(given, classes) if classes else "; say classes=…, or give numbers"
            raise UserError(f"{what}: class {brief(given)} is unknown{known}")
        return classes.index(legible(given))
    try:
        found = check_whole(what, int(given) if isinstance(given, str) else given, -(10**9))
        return int(np.int32(found))
    except (UserError, OverflowError, ValueError) as error:
        told = f"{what}: give a class's name or number, not {brief(given)}"
        raise UserError(told) from error


def options_asked(methods: Sequence[str], options: Any) -> tuple[tuple[str, Any], ...]:
    """Returns the options of methods as a program is compiled for them; None is none.

    Raises:
      UserError: for what is no mapping, an option that no method has, or that is no value of it.
    """
    if options is not None and not isinstance(options, Mapping):
        told = brief(options)
        raise UserError(f'options must be names and values, {{"samples": 4000}} say, not {told}')
    if options and not methods:
        raise UserError("options are of a method; name it: method='rise'")
    check_options(methods, options or {})
    return tuple(sorted((options or {}).items()))


def names_of(given: Any, count: int) -> list[str]:
    """Returns what people read under each image."""
    if isinstance(given, str):
        given = [given]
    try:
        found = list(given)
    except TypeError as error:
        raise UserError(f"names must be a list, one for each image, not {brief(given)}") from error
    _check_length("names", found, count)
    for name in found:
        if not isinstance(name, str | int | np.integer | os.PathLike):
            raise UserError(f"names: {brief(name)} is no name; give text")
    return [str(name) for name in found]


def _check_length(what: str, given: Sequence[Any], count: int) -> None:
    if len(given) != count:
        raise UserError(f"{what} has {len(given)} entries for {count} images; give one for each")


def check_range(what: str, given: Iterable[int | None], k: int) -> None:
    """Raises a UserError for a class that the network does not know."""
    for index in given:
        if index is not None and not 0 <= index < k:
            raise UserError(f"{what}: class {index} does not exist; classes are 0 to {k - 1}")


def class_names(given: Any) -> tuple[str, ...]:
    """Returns the names in label order; () where none were given."""
    ordered = not isinstance(given, str | Mapping | Set)
    try:
        names = tuple(given if given is not None else ()) if ordered else (None,)
    except TypeError:
        names = (None,)
    if not all(isinstance(name, str | int | np.integer) for name in names):
        raise UserError(f"classes must be a list of names, in label order, not {brief(given)}")
    return tuple(map(legible, names))


def of_network(classes: tuple[str, ...], k: int) -> tuple[str, ...]:
    """Returns the names of the classes that a network tells apart; without names their numbers."""
    if classes and len(classes) != k:
        raise UserError(f"classes names {len(classes)} classes, but the network tells {k} apart")
    return classes or tuple(map(str, range(k)))
