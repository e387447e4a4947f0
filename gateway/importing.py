"""Keep the garbage collector away from what is imported.

What an import makes lives as long as the process. The collector would look through it again and again while
more is imported, now and then while the process runs, and once more when it ends. At the start and the end
of a short command that is a quarter of its time.
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
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
