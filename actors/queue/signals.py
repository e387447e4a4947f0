"""Call the middleware for a signal, as Dramatiq's broker does, and skip what does not handle it.

A message causes four signals. Most of the middleware has no method of its own for them, and Dramatiq would
call the empty methods of the base class. For a short message that is a notable part of its time.
"""

from collections.abc import Callable

from dramatiq.broker import Broker
from dramatiq.middleware import Middleware, MiddlewareError


class SignalingBroker(Broker):
    """The signals of a broker; its middleware may change at any time."""

    def __init__(self, middleware: list[Middleware]) -> None:
        self._handling: dict[tuple[str, int], list[Callable[..., object]]] = {}
        """The methods that handle a signal, by the signal and the number of middleware objects."""
        # Not the constructor of PostgresBroker, which opens a pool at once, and adds Results.
        Broker.__init__(self, middleware=middleware)  # type: ignore[no-untyped-call]

    def emit_before(self, signal: str, *args: object, **kwargs: object) -> None:
        """Call the middleware that handles a signal; of its errors only a MiddlewareError is raised."""
        for handle in self._handlers(f"before_{signal}"):
            try:
                handle(self, *args, **kwargs)
            except MiddlewareError:
                raise
            except Exception:
                self.logger.critical("Unexpected failure in %r.", handle, exc_info=True)

    def emit_after(self, signal: str, *args: object, **kwargs: object) -> None:
        """Call the middleware that handles a signal, the last one first; its errors are logged."""
        for handle in reversed(self._handlers(f"after_{signal}")):
            try:
                handle(self, *args, **kwargs)
            except Exception:
                self.logger.critical("Unexpected failure in %r.", handle, exc_info=True)

    def _handlers(self, signal: str) -> list[Callable[..., object]]:
        key = signal, len(self.middleware)
        if key not in self._handling:
            inherited = getattr(Middleware, signal)
            methods = [getattr(one, signal) for one in self.middleware]
            self._handling[key] = [
                method for method in methods if getattr(method, "__func__", method) is not inherited
            ]
        return self._handling[key]
