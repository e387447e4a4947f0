"""The sections `sweep`, `metrics`, `console` and `notify` of config.yaml."""

from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from gateway.config.section import BindAddress, Host, Port, Seconds, Section, Url

HostName = Annotated[str, Field(pattern=r"^[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?$")]


def _network(text: str) -> str:
    try:
        ip_network(text)
    except ValueError as error:
        raise ValueError("an address or a network is expected, such as 10.1.2.3 or 10.1.2.0/24") from error
    return text


class Sweep(Section):
    """The sweep, which runs each minute."""

    retention_hours: Annotated[float, Field(gt=0, le=36_500 * 24)] = 24
    history_days: Annotated[float, Field(ge=0, le=36_500)] = 400
    orphan_grace_seconds: Seconds = 300
    reconcile_grace_seconds: Seconds = 60


class Metrics(Section):
    """Where `mini-pacs metrics` serves the figures for Prometheus."""

    bind_address: BindAddress = "127.0.0.1"
    port: Port = 9112


class ConsoleTls(Section):
    """TLS of the console: its certificate."""

    certificate: Path
    key: Path


class Console(Section):
    """`mini-pacs console`: where it listens, and who may use it."""

    bind: BindAddress = "127.0.0.1"
    port: Port = 8080
    hosts: tuple[HostName, ...] = ()
    tls: ConsoleTls | None = None
    idle_minutes: Annotated[float, Field(gt=0, le=24 * 60)] = 30
    trusted_header: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9-]{0,63}$")] | None = None
    trusted_proxy: Annotated[str, AfterValidator(_network)] | None = None
    viewer_url: Annotated[Url, Field(pattern=r"^https?://[^\s\"'<>]+$")] | None = None
    allow_faults: bool = False

    @model_validator(mode="after")
    def _header_needs_a_proxy(self) -> Self:
        if (self.trusted_header is None) != (self.trusted_proxy is None):
            raise ValueError(
                "trusted_header and trusted_proxy belong together: the header of another address is ignored"
            )
        return self

    @property
    def idle(self) -> timedelta:
        """How long a session lasts without use."""
        return timedelta(minutes=self.idle_minutes)


class Webhook(Section):
    """An URL that gets each message as a JSON document by POST."""

    url: Annotated[Url, Field(pattern=r"^https?://[^\s]+$")]
    authorization_file: Path | None = None


class Mail(Section):
    """A mail server, and who gets the messages."""

    host: Host
    port: Port = 25
    sender: Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+$")]
    recipients: Annotated[
        tuple[Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+$")], ...], Field(min_length=1)
    ]
    starttls: Literal["required", "none"] = "none"
    username: str | None = None
    password_file: Path | None = None

    @model_validator(mode="after")
    def _login_is_whole(self) -> Self:
        if (self.username is None) != (self.password_file is None):
            raise ValueError("username and password_file belong together: give both or neither")
        return self


class Notify(Section):
    """The endpoints that get a message when a finding opens or closes."""

    webhook: Webhook | None = None
    mail: Mail | None = None
    severity: Literal["problem", "note"] = "problem"
    after_seconds: Annotated[float, Field(ge=0, le=24 * 3600)] = 60
    at_most_every_seconds: Annotated[float, Field(ge=0, le=24 * 3600)] = 300
    timeout_seconds: Annotated[float, Field(gt=0, le=60)] = 10

    @model_validator(mode="after")
    def _has_an_endpoint(self) -> Self:
        if self.webhook is None and self.mail is None:
            raise ValueError("notify has neither webhook nor mail: give one of them, or leave notify out")
        return self
