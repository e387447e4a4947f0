"""The database of a release with an example of everything, and its files.

`tests/released/0.1.0.sql` is a dump of a database that release 0.1.0 filled. Its times are relative to now;
see the head of the file. The data sets are generated again here, and must have the digests of their rows.
Later releases also have their spool, `tests/released/0.2.0.tar.gz`; `make release-data` makes both
(tests/released/__main__.py).
"""

import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psycopg2

from gateway.database.migrate import migrations
from gateway.dicom.dataset.part10 import preamble_and_file_meta
from support.synthetic_instances import Instance, result_of

FOLDER = Path(__file__).resolve().parents[1] / "released"
DIGESTS = {
    "0.1.0": {
        "0001_queue": "011da3cd25f7f24617fcf3e1d6eb3240976ee4332170d138fb385ebad72b8d03",
        "0002_gateway": "5b9f3c8147c3f13fdd2dc2807b9f887abafca84966225706606dfa7746e18342",
    },
    "0.2.0": {
        "0001_queue": "011da3cd25f7f24617fcf3e1d6eb3240976ee4332170d138fb385ebad72b8d03",
        "0002_gateway": "5b9f3c8147c3f13fdd2dc2807b9f887abafca84966225706606dfa7746e18342",
        "0003_message_order": "7e3ad1ee7fa816541d088ff9fa9088ee68d93896dcb1f57e4401fd3161ebad02",
        "0004_receive_many": "7e282230db8dfaa9b2e6cf504502c33e9de852de043cf6836c10cefe52f53ebd",
        "0005_claimed_ahead": "e5c4ba42f4af09000c2bc8a071bca429f358293304e694a091fea4268fff9215",
        "0006_result_is_here": "3f7ac9eb014f29f654a0d1f5bcaef6e42df1411d18ee9f0ba5f8def0818f4408",
        "0007_bound_studies": "935169e04988c6c610c8c2b79e365166e03e7275dbc5276de3f1b6e86a451120",
        "0008_version_order": "6eb0397e33036ecf8ffda8c843939a23e3e53dfde5a2bb873daf02a31e00689c",
        "0009_repeats_and_results": "74bf324237987745bb0b3dc69b65f51eb9deea51eaefc7a8193fe8cdfb802d68",
        "0010_peers": "62fe02994db8297cd3e99614c83772fb525d7be3aedcac1672f07e0d81711879",
        "0011_stopping_and_dead": "46b4232114246528d3163ccb605a0d69867c3a1b33025a0844a17a5b47ef6e86",
        "0012_long_study_uids": "a3bc8579454e7a76ae6dd8ffdfc14eccaa36893565d88a141000d385cda9881c",
    },
}
"""The migrations of each release and the SHA-256 of their text: a released migration never changes, apart
from reworded comments (gateway/database/migrate.py)."""

TABLE = """
CREATE TABLE public.schema_migrations (
    version text PRIMARY KEY, digest text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now());
"""
"""The table as release 0.1.0 created it; later ones add `additive` themselves."""

WITH_FILES = ("0.2.0",)
"""The releases whose spool is kept beside the database."""

ROOT = "1.2.826.0.1.20261123"


def original(number: int, *, version: int = 0) -> Instance:
    """Return the n-th original; three share a study. Another version has the same UID and other bytes."""
    return Instance(
        sop_instance_uid=f"{ROOT}.1.{number}",
        study_instance_uid=f"{ROOT}.2.{number // 3}",
        series_instance_uid=f"{ROOT}.3.{number // 3}",
        payload=bytes([number, version]) * 32,
    )


def result(number: int, *sources: Instance, study: str | None = None) -> Instance:
    """Return the n-th result; it references these instances, or none."""
    made = result_of(*sources, study=study or f"{ROOT}.2.99", number=number)
    return replace(made, sop_instance_uid=f"{ROOT}.4.{number}")


PENDING, IN_FLIGHT, DELIVERED, DEAD, CANCELLED, RETRIED = (original(number) for number in range(1, 7))
CONFLICT = original(1, version=1)
ARRIVED = result(1, DELIVERED, study=DELIVERED.study_instance_uid)
UNMATCHED = result(2)
ORIGINALS = (PENDING, IN_FLIGHT, DELIVERED, DEAD, CANCELLED, RETRIED, CONFLICT)
RESULTS = (ARRIVED, UNMATCHED)


@contextmanager
def reading(dsn: str) -> Iterator["psycopg2.extensions.cursor"]:
    """Yield a cursor on a separate connection; commit at the end."""
    connection = psycopg2.connect(dsn)
    try:
        with connection, connection.cursor() as cursor:
            yield cursor
    finally:
        connection.close()


def load(dsn: str, release: str) -> None:
    """Fill the empty database with the schema and data of that release."""
    with reading(dsn) as cursor:
        cursor.execute(TABLE)
        for migration in migrations():
            if migration.version in DIGESTS[release]:
                cursor.execute(migration.statements)
                cursor.execute(
                    "INSERT INTO public.schema_migrations VALUES (%s, %s)",
                    (migration.version, migration.digest),
                )
        cursor.execute((FOLDER / f"{release}.sql").read_text(encoding="utf-8"))


def extract_files(release: str, data_root: Path) -> None:
    """Write the spool of that release to `data_root`, hard links included."""
    with tarfile.open(FOLDER / f"{release}.tar.gz") as archive:
        archive.extractall(data_root, filter="data")


def write_files(dsn: str, data_root: Path) -> None:
    """Write each row's file to the folder that the row names."""
    by_digest = {instance.digest: instance for instance in (*ORIGINALS, *RESULTS)}
    with reading(dsn) as cursor:
        cursor.execute(
            "SELECT encode(sha256, 'hex'), place::text, study_instance_uid, file_name FROM instances"
        )
        for digest, place, study, name in cursor.fetchall():
            instance = by_digest[digest]
            folder = data_root / place / study
            folder.mkdir(parents=True, exist_ok=True)
            head = preamble_and_file_meta(
                instance.sop_class_uid,
                instance.sop_instance_uid,
                instance.context.transfer_syntax_uid,
                source_ae_title="ORTHANC",
            )
            (folder / name).write_bytes(head + instance.data_set())
