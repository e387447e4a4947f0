"""Derive the results of a series: as many slices in one series, or one instance by highdicom.

The slices have the order of their sources. Each slice depends on its own source only, so a series that is
sent again, also with further instances, gives the same slices with the same bytes.

Only the headers of a series are in memory, and one instance is open at a time.
"""

from collections.abc import Callable, Iterator, Sequence

from pydicom import Dataset

from worker_app import geometry, source
from worker_app.result import SlicePlace, derive
from worker_app.settings import Output
from worker_app.source import Source
from worker_app.waiting import WaitingInstance

Failed = Callable[[WaitingInstance, Exception], None]
"""Called for an instance from which no result can be derived; the others get their results."""


def results(
    instances: Sequence[WaitingInstance], ae_title: str, output: Output, failed: Failed
) -> Iterator[tuple[Source, Dataset]]:
    """Yield each result of the series, with the source that the log names for it.

    A series of which no segmentation or report can be made gets slices.
    """
    headers, readable = [], []
    for instance in instances:
        try:
            with instance.opened() as file:
                headers.append(source.read(file, instance.transfer_syntax_uid).header)
            readable.append(instance)
        except Exception as error:  # noqa: BLE001  an invalid instance must not cost the result of the others
            failed(instance, error)
    order, places = in_order(headers)
    readable = [readable[index] for index in order]
    if readable and output is not Output.IMAGES:
        from worker_app import highdicom_results  # noqa: PLC0415  highdicom is optional

        try:
            yield highdicom_results.derive(readable, ae_title, output)
        except highdicom_results.NotDerivableError:
            pass
        else:
            return
    for instance, place in zip(readable, places, strict=True):
        try:
            with instance.opened() as file:
                one = source.read(file, instance.transfer_syntax_uid)
                derived = derive(one, ae_title, place)
        except Exception as error:  # noqa: BLE001  the same
            failed(instance, error)
        else:
            yield one, derived


def in_order(headers: Sequence[Dataset]) -> tuple[list[int], list[SlicePlace]]:
    """Return the indexes of the headers in the order of a viewer, and the place of each in the result.

    The order is that of InstanceNumber if each has another one, else of position, else of UID.
    """
    numbers = _numbers(headers)
    if numbers:
        order = sorted(range(len(headers)), key=numbers.__getitem__)
        return order, [SlicePlace(numbers[index], is_of_source=True) for index in order]
    heights = [geometry.height(header) for header in headers]
    order = sorted(
        range(len(headers)),
        key=lambda index: (heights[index] is None, heights[index] or 0.0, str(headers[index].SOPInstanceUID)),
    )
    return order, [SlicePlace(number, is_of_source=False) for number in range(1, len(headers) + 1)]


def _numbers(headers: Sequence[Dataset]) -> list[int]:
    """Return the InstanceNumber of each; none if one has no positive number, or two have the same."""
    numbers = []
    for header in headers:
        try:
            numbers.append(int(header.get("InstanceNumber") or 0))
        except (TypeError, ValueError):
            return []
    return numbers if min(numbers, default=0) > 0 and len(set(numbers)) == len(numbers) else []
