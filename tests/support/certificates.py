"""Certificates for a test, made by openssl: an authority, certificates that it signed, and invalid ones."""

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as PEM files."""

    certificate: Path
    key: Path


@dataclass(frozen=True)
class Certificates:
    """The certificates of a test.

    `edge` is valid for 127.0.0.1 and localhost. `expired` has an end date in the past. `foreign` is signed
    by another authority of the same name. `stranger` is self-signed.
    """

    ca: Path
    edge: Pair
    sender: Pair
    expired: Pair
    foreign: Pair
    stranger: Pair


def make(folder: Path) -> Certificates:
    """Make all certificates in `folder`."""
    folder.mkdir(parents=True)
    authority = _self_signed(folder, "authority")
    return Certificates(
        ca=authority.certificate,
        edge=_signed(folder, "edge", authority),
        sender=_signed(folder, "sender", authority),
        expired=_signed(folder, "expired", authority, "20200101000000Z", "20200102000000Z"),
        foreign=_signed(folder / "foreign", "sender", _self_signed(folder / "foreign", "authority")),
        stranger=_self_signed(folder, "stranger"),
    )


def lock(key: Path, locked: Path, password: str) -> None:
    """Write the key again, encrypted with a password."""
    told = locked.with_suffix(".password")
    told.write_text(password, encoding="ascii")
    _openssl("pkcs8", "-topk8", "-in", key, "-out", locked, "-passout", f"file:{told}")


def _self_signed(folder: Path, name: str) -> Pair:
    folder.mkdir(exist_ok=True)
    pair = Pair(folder / f"{name}.pem", folder / f"{name}.key")
    _openssl(
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}",
        "-keyout", pair.key, "-out", pair.certificate,
    )  # fmt: skip
    return pair


def _signed(folder: Path, name: str, authority: Pair, *validity: str) -> Pair:
    """Sign for two days, or for a given period: only `openssl ca` can sign for a period in the past."""
    pair = Pair(folder / f"{name}.pem", folder / f"{name}.key")
    request, names = folder / f"{name}.csr", folder / f"{name}.ext"
    names.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n", encoding="ascii")
    _openssl(
        "req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", pair.key, "-out", request
    )
    if not validity:
        _openssl(
            "x509", "-req", "-days", "2", "-in", request, "-CA", authority.certificate,
            "-CAkey", authority.key, "-CAcreateserial", "-extfile", names, "-out", pair.certificate,
        )  # fmt: skip
        return pair
    register = folder / "register"
    register.touch()
    settings = folder / "ca.cnf"
    settings.write_text(
        f"[ca]\ndefault_ca=a\n[a]\ndatabase={register}\nnew_certs_dir={folder}\ndefault_md=sha256\n"
        "rand_serial=yes\npolicy=p\n[p]\ncommonName=supplied\n",
        encoding="ascii",
    )
    begin, end = validity
    _openssl(
        "ca", "-batch", "-notext", "-config", settings, "-startdate", begin, "-enddate", end,
        "-in", request, "-cert", authority.certificate, "-keyfile", authority.key, "-extfile", names,
        "-out", pair.certificate,
    )  # fmt: skip
    return pair


def _openssl(*words: str | Path) -> None:
    subprocess.run(["openssl", *map(str, words)], capture_output=True, check=True, timeout=60)
