"""The options of `mini-pacs send`, each with its type, its limits and its line of help."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from gateway.sender.generate import DEFAULT_MODALITY, MODALITIES
from gateway.sender.numbering import MAX_WIDTH

MAX_TIMES = 100_000
MAX_DELAY_MS = 3_600_000
MAX_TIMEOUT_SECONDS = 86_400


class PriorityName(StrEnum):
    """The values of `--priority`."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


# ---- what to send --------------------------------------------------------------------------------

Paths = Annotated[
    list[Path] | None,
    typer.Argument(metavar="PATH…", help="Files and folders to send.", show_default=False),
]
Generate = Annotated[
    int,
    typer.Option(min=0, metavar="N", help="Generate N studies, each of another patient.", show_default=False),
]
Instances = Annotated[
    int | None,
    typer.Option(min=1, help="Instances of each generated study; without this option 1.", show_default=False),
]
Burst = Annotated[
    int,
    typer.Option(
        min=1,
        max=MAX_TIMES,
        help="Send everything so many times; with --rewrite-uids the PATHs are new instances each time.",
    ),
]
OutDir = Annotated[
    Path | None,
    typer.Option(
        file_okay=False, help="Keep the files that are generated or rewritten there.", show_default=False
    ),
]

# ---- to whom, and how ----------------------------------------------------------------------------

Host = Annotated[str, typer.Option(help="Host of the Storage SCP.")]
Port = Annotated[int, typer.Option(min=1, max=65535, help="Port of the Storage SCP.")]
CallingAeTitle = Annotated[
    str, typer.Option("--calling-aet", help="AE title to send as; the SCP must allow it.")
]
CalledAeTitle = Annotated[str, typer.Option("--called-aet", help="AE title of the Storage SCP.")]
Associations = Annotated[
    int, typer.Option(min=1, max=256, help="Number of associations that share the work.")
]
DelayMs = Annotated[
    float,
    typer.Option(min=0, max=MAX_DELAY_MS, help="Milliseconds that each association waits after an instance."),
]
PriorityOption = Annotated[PriorityName, typer.Option(help="Priority of the C-STORE requests.")]
Timeout = Annotated[
    float,
    typer.Option(
        min=0.1,
        max=MAX_TIMEOUT_SECONDS,
        help="Seconds to wait for an answer; must exceed the SCP's slowest flush.",
    ),
]

# ---- what to change ------------------------------------------------------------------------------

RewriteUids = Annotated[
    bool,
    typer.Option(
        "--rewrite-uids",
        help="Send PATHs as new instances; instances of one study or series stay together.",
    ),
]
StudyUid = Annotated[str | None, typer.Option(help="StudyInstanceUID of all instances.", show_default=False)]
SeriesUid = Annotated[
    str | None, typer.Option(help="SeriesInstanceUID of all instances.", show_default=False)
]
SopUid = Annotated[
    str | None, typer.Option(help="SOPInstanceUID, where only one instance is sent.", show_default=False)
]
PatientId = Annotated[
    str | None,
    typer.Option(help="PatientID; with --seq-from-db the text before the number.", show_default=False),
]
PatientName = Annotated[str | None, typer.Option(help="PatientName, as Family^Given.", show_default=False)]
Modality = Annotated[
    str | None,
    typer.Option(
        help=f"Modality; to generate one of {', '.join(MODALITIES)}, without this option {DEFAULT_MODALITY}.",
        show_default=False,
    ),
]
SeriesDescription = Annotated[str | None, typer.Option(help="SeriesDescription.", show_default=False)]
SeqFromDb = Annotated[
    bool,
    typer.Option(
        "--seq-from-db",
        help="Number the generated studies from a sequence of the edge's database: EDGE000001.",
    ),
]
SeqWidth = Annotated[int, typer.Option(min=1, max=MAX_WIDTH, help="Digits of that number.")]
