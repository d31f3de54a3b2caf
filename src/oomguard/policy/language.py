"""The base of all models of the policy language, and what is known of their keys."""

from collections.abc import Iterator
from functools import cache
from typing import Annotated, Any, NamedTuple, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag


class Takes(NamedTuple):
    """What a key takes, in words, for error messages.

    `kinds` are the scalars it takes; `each` is what an item of its list must be; `hint` is the hint
    if there is no better one. A key that `is_required` cannot be removed.
    """

    words: str
    kinds: tuple[type, ...] = ()
    each: str = ""
    hint: str = ""
    is_required: bool = False


def kind_of(value: object) -> str:
    """Return the tag of a value in a union: `<list>`, `<mapping>`, `<number>` or `<word>`."""
    if isinstance(value, list | dict):
        return "<list>" if isinstance(value, list) else "<mapping>"
    return "<number>" if isinstance(value, int) and not isinstance(value, bool) else "<word>"


BY_KIND = Discriminator(kind_of)
"""Chooses among these alternatives, so that an error is about the one that was meant."""

_Item = TypeVar("_Item")
Word = Annotated[_Item, Tag("<word>")]
Number = Annotated[_Item, Tag("<number>")]
Map = Annotated[_Item, Tag("<mapping>")]
Listed = Annotated[_Item, Tag("<list>")]

Some = Annotated[
    Annotated[_Item, Tag("<one>")] | Annotated[list[_Item], Field(min_length=1), Tag("<many>")],
    Discriminator(lambda value: "<many>" if isinstance(value, list) else "<one>"),
]
"""One value, or a list of them."""


def many(said: _Item | list[_Item] | None) -> tuple[_Item, ...]:
    """Return the values of a key that takes `Some`; none if it is missing."""
    if said is None:
        return ()
    return tuple(said) if isinstance(said, list) else (said,)


Flag = Annotated[bool, Takes("true or false", (bool,))]


class Language(BaseModel):
    """The base of all models: no unknown keys, no conversion of values."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


def key(about: str, *examples: object, default: Any = None, **limits: Any) -> Any:
    """Return the field of a key: what it is for, examples, and its value if it is missing (`...`: never)."""
    return Field(default, description=about, examples=[*examples], **limits)


def pattern(form: str, *, limit: int = 30) -> Any:
    """Describe a text to editors. A validator enforces the same, with better messages."""
    return Field(max_length=limit, json_schema_extra={"pattern": f"^(?:{form})$"})


def _parts(kind: Any) -> Iterator[Any]:
    """Yield a type and everything in it: alternatives, items, marks."""
    yield kind
    for part in get_args(kind):
        yield from _parts(part)


@cache
def models(language: type[Language]) -> dict[tuple[str, ...], type[Language]]:
    """Return the model of each mapping in a language, by its keys."""
    found: dict[tuple[str, ...], type[Language]] = {(): language}
    for name, field in language.model_fields.items():
        for part in _parts(field.annotation):
            if isinstance(part, type) and issubclass(part, Language):
                found |= {(name, *below): model for below, model in models(part).items()}
    return found


def wanted(language: type[Language], keys: tuple[str, ...]) -> Takes:
    """Return what the key at `keys` takes, as `("rules", "scope")`."""
    model = models(language).get(keys[:-1])
    if model is None:  # its keys are not the language's
        above = wanted(language, keys[:-1])
        return Takes(above.each, above.kinds)
    if keys:
        field = model.model_fields[keys[-1]]
        for part in (*field.metadata, *_parts(field.annotation)):
            if isinstance(part, Takes):
                return part._replace(is_required=field.is_required())
    return Takes("a mapping with " + ", ".join(models(language)[keys].model_fields))
