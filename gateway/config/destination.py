"""The peers that the edge sends to: the PACS, other archives and workers, with their TLS."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from gateway.config.section import AETitle, Host, Port, Seconds, Section
from gateway.rules.language import Accepts


class DestinationTls(Section):
    """TLS to a destination: how its certificate is verified, and which one the edge presents."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    verify: Literal["host", "chain", "none"] = "host"

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together: give both or neither")
        if (self.verify == "none") != (self.ca is None):
            raise ValueError("the peer's certificate is verified with ca: set ca, or set verify: none")
        return self


class Destination(Section):
    """A peer that the edge sends to."""

    host: Host
    port: Port
    ae_title: AETitle
    timeout_s: Seconds = 30
    tls: DestinationTls | None = None

    @property
    def timeout(self) -> timedelta:
        """How long this peer may take for one DIMSE response."""
        return timedelta(seconds=self.timeout_s)


class Worker(Destination):
    """One worker of an application. It calls with one of `calling_ae_titles`, by default with `ae_title`."""

    calling_ae_titles: Annotated[tuple[AETitle, ...], Field(min_length=1)] | None = None

    @property
    def calling_titles(self) -> tuple[str, ...]:
        """The AE titles that it uses as a caller."""
        return self.calling_ae_titles or (self.ae_title,)


class StorageDestination(Destination):
    """A destination that keeps images: the PACS, or an archive beside it.

    It gets what its rule accepts, or everything if it has no rule. Its rate limits how fast it gets that.
    """

    accepts: Accepts | None = None
    max_instances_per_second: Annotated[float, Field(ge=1, le=10_000)] | None = None


class PacsDestination(StorageDestination):
    """The PACS."""


class ArchiveDestination(StorageDestination):
    """An archive beside the PACS. With `results: false` it gets originals only."""

    results: bool = True
