"""A CA and certificates of a lab, good and bad ones, made by OpenSSL."""

from pathlib import Path

from proof.edges.machine import run


class Authority:
    """A CA that signs certificates into a folder."""

    def __init__(self, folder: Path, name: str) -> None:
        """Make the CA `name`."""
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.certificate = folder / f"{name}.pem"
        self._key = folder / f"{name}.key"
        subject = ["-subj", f"/CN={name}", "-days", "30"]
        run(
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-keyout",
            self._key,
            "-out",
            self.certificate,
            *subject,
        )

    def sign(self, name: str, host: str = "IP:127.0.0.1", days: int = 30) -> tuple[Path, Path]:
        """Return certificate and key for `host`; with negative days it has expired."""
        certificate, key, request = (self.folder / f"{name}.{end}" for end in ("pem", "key", "csr"))
        run(
            "openssl",
            "req",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-keyout",
            key,
            "-out",
            request,
            "-subj",
            f"/CN={name}",
        )
        extension = self.folder / f"{name}.ext"
        extension.write_text(f"subjectAltName = {host}\n")
        signer: list[str | Path] = [
            "-CA",
            self.certificate,
            "-CAkey",
            self._key,
            "-CAcreateserial",
            "-extfile",
            extension,
        ]
        run("openssl", "x509", "-req", "-in", request, *signer, "-days", str(days), "-out", certificate)
        return certificate, key
