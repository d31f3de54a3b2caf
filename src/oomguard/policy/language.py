"""The base of all models of the policy language."""

from typing import NamedTuple

from pydantic import BaseModel, ConfigDict


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


class Language(BaseModel):
    """The base of all models: no unknown keys, no conversion of values."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)
