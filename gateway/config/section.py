"""The base class of the sections of config.yaml, and the types of their values."""

from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from gateway.domain import allowlist
from gateway.domain.host_name import check_host
from gateway.domain.identifiers import is_ae_title, is_uid


def _ae_title(text: str) -> str:
    if not is_ae_title(text):
        raise ValueError("an AE title has 1 to 16 printable characters, no backslash, no outer spaces")
    return text


def _caller(text: str) -> str:
    allowlist.parse(text)
    return text


def _uid(text: str) -> str:
    if not is_uid(text):
        raise ValueError("a UID has at most 64 digits and dots")
    return text


def _bind_address(text: str) -> str:
    return text and check_host(text)  # an empty text is every IPv4 address


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
        is_complete = parts.hostname is not None and (parts.port is None or parts.port > 0)
    except ValueError as error:
        raise ValueError(f"it is no URL: {error}") from error
    if not is_complete:
        raise ValueError("it is no URL: host or port is missing")
    return text


AETitle = Annotated[str, AfterValidator(_ae_title)]
Caller = Annotated[str, AfterValidator(_caller)]
"""An entry of the allowlist, as text; `gateway.domain.allowlist` parses it."""
Uid = Annotated[str, AfterValidator(_uid)]
Host = Annotated[str, AfterValidator(check_host)]
BindAddress = Annotated[str, AfterValidator(_bind_address)]
Url = Annotated[str, AfterValidator(_url)]
Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[float, Field(gt=0, le=7 * 24 * 3600)]


class Section(BaseModel):
    """A section of the file. An unknown key is an error: a misspelt one would silently leave the default."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def __copy__(self) -> Self:
        """Return a copy without the cached properties: `model_copy` gives it other values."""
        copied = super().__copy__()
        for name in copied.__dict__.keys() - type(self).model_fields.keys():
            del copied.__dict__[name]
        return copied

    @model_validator(mode="before")
    @classmethod
    def _no_yes_or_no(cls, values: object) -> object:
        """Refuse true and false: YAML reads `yes` as true, which pydantic would take for the number 1."""
        if isinstance(values, dict):
            for key, value in values.items():
                field = cls.model_fields.get(key) if isinstance(key, str) else None
                if isinstance(value, bool) and field is not None and field.annotation is not bool:
                    raise ValueError(f"{key} = {str(value).lower()}: a number or a text is expected")
        return values
