"""Generate /tmp/test.dcm, one CT image, for a first `sender_simulator.py /tmp/test.dcm`.

The file gets this name when it is complete. Its UIDs are new at each start of the container.
"""

from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from gateway.sender.generate import Study, generate, write

TARGET = Path("/tmp/test.dcm")  # noqa: S108  the documented name, on this container's own tmpfs

with TemporaryDirectory(dir=TARGET.parent) as folder:
    [instance] = generate(Study(1, datetime.now().astimezone()))
    write(instance, Path(folder)).path.replace(TARGET)
