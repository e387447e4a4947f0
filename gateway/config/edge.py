"""The section `edge` of config.yaml: the Storage SCP and the spool."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, ValidatorFunctionWrapHandler, WrapValidator, model_validator

from gateway.config.section import AETitle, BindAddress, Caller, Port, Seconds, Section, Uid
from gateway.domain import allowlist

AS_ARCHIVES = ("as_archives",)
"""`edge.accepted_transfer_syntaxes: as_archives`, in the form of a list."""


def _description(text: str) -> str:
    # Series Description is compared without its padding.
    if not text.strip() or not text.isprintable():
        raise ValueError("printable characters are expected")
    return text.strip()


def _distinct(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"duplicate entry {value}: an order of preference names each once")
    return values


def _or_as_archives(value: object, listed: ValidatorFunctionWrapHandler) -> object:
    if isinstance(value, str):
        if value != AS_ARCHIVES[0]:
            raise ValueError(f"a list of UIDs, or {AS_ARCHIVES[0]}, is expected")
        return AS_ARCHIVES
    return AS_ARCHIVES if value == list(AS_ARCHIVES) else listed(value)


class Urgent(Section):
    """Instances that are sent before the others, besides those with C-STORE priority HIGH."""

    calling_aets: tuple[AETitle, ...] = ()
    modalities: tuple[Annotated[str, Field(pattern=r"^[A-Z0-9_]{1,16}$")], ...] = ()


class EdgeTls(Section):
    """TLS of the Storage SCP: its certificate, and whether senders need one."""

    certificate: Path
    key: Path
    ca: Path | None = None
    client_certificate: Literal["required", "none"] = "required"

    @model_validator(mode="after")
    def _required_needs_a_ca(self) -> Self:
        if (self.client_certificate == "required") != (self.ca is not None):
            raise ValueError(
                "client certificates are verified with ca: set ca, or set client_certificate: none"
            )
        return self


class Edge(Section):
    """The Storage SCP and the spool."""

    ae_title: AETitle
    bind_address: BindAddress = "0.0.0.0"  # noqa: S104  the edge serves the hospital's network
    port: Port = 11112
    tls: EdgeTls | None = None
    data_root: Path = Path("data")
    log_path: Path = Path("logs/edge.log")
    allowed_calling_aets: tuple[Caller, ...]
    accepted_sop_classes: tuple[Uid, ...] = ()
    additional_sop_classes: tuple[Uid, ...] = ()
    accepted_transfer_syntaxes: Annotated[
        tuple[Uid, ...], AfterValidator(_distinct), WrapValidator(_or_as_archives)
    ] = ()
    receivers: Annotated[int, Field(ge=0, le=64)] = 0
    max_associations: Annotated[int, Field(ge=1, le=10_000)] = 1000
    max_associations_per_peer: Annotated[int, Field(ge=1, le=10_000)] = 600
    max_pdu_bytes: Annotated[int, Field(ge=4096, le=1 << 20)] = 131_072
    artim_timeout_seconds: Seconds = 30
    network_timeout_seconds: Seconds = 60
    idle_timeout_seconds: Seconds = 600
    stop_grace_seconds: Seconds = 30
    commit_timeout_seconds: Seconds = 10
    duplicate_window_seconds: Annotated[float, Field(ge=0, le=30 * 24 * 3600)] = 30
    disk_reserve_mb: Annotated[int, Field(ge=0)] = 512
    max_unregistered_hours: Annotated[float, Field(gt=0, le=24 * 30)] = 24
    search_key: Path | None = None
    result_series_description: Annotated[str, Field(max_length=64), AfterValidator(_description)] = (
        "AI_RESULT"
    )
    urgent: Urgent = Urgent()
    log_max_mb: Annotated[int, Field(ge=1)] = 50
    log_backups: Annotated[int, Field(ge=0, le=100)] = 5

    @property
    def accepts_as_archives(self) -> bool:
        """Whether senders are offered the transfer syntaxes that the archives accept."""
        return self.accepted_transfer_syntaxes == AS_ARCHIVES

    @property
    def allowed_callers(self) -> tuple[allowlist.Entry, ...]:
        """The callers that may associate, and their addresses."""
        return tuple(map(allowlist.parse, self.allowed_calling_aets))

    @property
    def calling_ae_titles(self) -> tuple[str, ...]:
        """The AE titles that may call, each once, in the order of the file."""
        return tuple(dict.fromkeys(entry.ae_title for entry in self.allowed_callers))

    @property
    def duplicate_window(self) -> timedelta:
        """How long after its delivery a repeat creates no new delivery."""
        return timedelta(seconds=self.duplicate_window_seconds)
