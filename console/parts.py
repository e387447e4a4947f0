"""What every request of the console uses: configuration, database, sessions, live figures."""

from dataclasses import dataclass

from jinja2 import Environment
from starlette.requests import HTTPConnection

from console.background import Background
from console.database import Reading
from console.first_link import FirstLink
from console.health import Health
from console.live import Live
from console.sessions import Sessions
from console.sign_in import SignIn
from gateway.config import Configuration
from gateway.database.pool import Database
from gateway.metrics.current import CurrentConfiguration


@dataclass(frozen=True, slots=True)
class Parts:
    """One of each for the whole process; `parts(request)` returns it."""

    current: CurrentConfiguration
    reading: Reading
    acting: Database
    sign_in: SignIn
    sessions: Sessions
    live: Live
    health: Health
    background: Background
    link: FirstLink
    templates: Environment

    @property
    def configuration(self) -> Configuration:
        """The current configuration: that of the file, read again when it has changed."""
        return self.current()


def parts(request: HTTPConnection) -> Parts:
    """Return the parts of the application that handles `request`."""
    found = request.app.state.parts
    assert isinstance(found, Parts)
    return found
