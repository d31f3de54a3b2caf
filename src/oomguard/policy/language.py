"""The base of all models of the policy language."""

from typing import Annotated, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag


class Takes(NamedTuple):
    """What a key takes, in words, for error messages.

    `kinds` are the scalars it takes; `each` is what an item of its list must be; `hint` is the hint
    if there is no better one.
    """

    words: str
    kinds: tuple[type, ...] = ()
    each: str = ""
    hint: str = ""

    @property
    def of_each(self) -> "Takes":
        """What each of its values takes."""
        return Takes(self.each, self.kinds)


def kind_of(value: object) -> str:
    """Return the tag of a value in a union: `<list>`, `<mapping>`, `<number>` or `<word>`."""
    if isinstance(value, list | dict):
        return "<list>" if isinstance(value, list) else "<mapping>"
    return "<number>" if isinstance(value, int) and not isinstance(value, bool) else "<word>"


def _one_or_many(value: object) -> str:
    return "<many>" if isinstance(value, list) else "<one>"


_Item = TypeVar("_Item")
Some = Annotated[
    Annotated[_Item, Tag("<one>")] | Annotated[list[_Item], Field(min_length=1), Tag("<many>")],
    Discriminator(_one_or_many),
]
"""One value, or a list of them."""


class Language(BaseModel):
    """The base of all models: no unknown keys, no conversion of values."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)
