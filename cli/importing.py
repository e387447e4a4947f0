"""Keep the garbage collector away from what is imported.

What an import makes lives as long as the process. The collector would look through it again and again while
more is imported, and once more when the process ends. That is a quarter of the time of a short command.
"""

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager

atexit.register(gc.freeze)


@contextmanager
def importing() -> Iterator[None]:
    """Keep the collector from looking at what is imported meanwhile, then and later."""
    gc.disable()
    yield
    gc.freeze()
    gc.enable()
