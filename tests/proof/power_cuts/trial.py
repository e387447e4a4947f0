"""The result of one power cut, and the end that all kinds of run share: start again, wait, judge."""

from dataclasses import dataclass, field

from support.synthetic_instances import Instance

from proof.power_cuts.edge import PoweredEdge, Seen
from proof.power_cuts.judge import violations
from proof.power_cuts.load import Key, Load


@dataclass
class Trial:
    """One or more cuts of one run, and what was wrong afterwards."""

    kind: str
    """`forgetful`, or the file system."""
    cuts: list[str] = field(default_factory=list)
    """Where, and what was lost."""
    acknowledged: int = 0
    seconds: float = 0.0
    violations: list[str] = field(default_factory=list)
    output: str = ""


def recover_and_judge(
    edge: PoweredEdge, load: Load, trial: Trial, patience: float, *, acknowledged: set[Key], before: Seen
) -> None:
    """Start the edge after the last cut; note what is wrong when it is quiet again.

    `before` is what the peers took before that cut and the journal of this edge does not have.
    """
    trial.acknowledged = len(acknowledged)
    try:
        edge.start()
        _edge_takes(load, trial)
        if rest := edge.wait_until_quiet(acknowledged, patience):
            trial.violations.append(f"it does not come to rest: {rest}")
    except AssertionError as error:
        trial.violations.append(f"it does not come back: {error}")
    trial.violations += violations(edge, acknowledged, load.sent, before + edge.taken())
    if trial.violations:
        trial.violations += [f"not delivered: {delivery}" for delivery in edge.undelivered()]
        trial.output = edge.run.output()


def _edge_takes(load: Load, trial: Trial) -> None:
    """Send one more instance of a study that was cut: the edge takes it."""
    known = next(iter(load.sent.values()), Instance())  # a cut may come before anything is sent
    status = load.send(Instance(study_instance_uid=known.study_instance_uid))
    if status != 0:
        trial.violations.append(f"after the cut a new instance gets {status}")
