"""A certificate for one run: scheduler and workers speak TLS and know each other by it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from distributed.security import Security

__all__ = ["Certificate", "make"]

#: Longer than any run.
_DAYS = 90


@dataclass(frozen=True)
class Certificate:
    """Files of a run's certificate.

    Attributes:
        cert: The certificate, which signs itself and is its own authority.
        key: Its private key, readable by the owner only.
    """

    cert: Path
    key: Path

    def security(self, *, base_names: bool = False) -> Security:
        """Dask's security with these files, encryption required.

        Args:
            base_names: Name the files without folder, for workers to whose folder they travel.
        """
        cert, key = (p.name if base_names else str(p) for p in (self.cert, self.key))
        roles = ("client", "scheduler", "worker")
        return Security(
            require_encryption=True,
            tls_ca_file=cert,
            **{f"tls_{role}_cert": cert for role in roles},
            **{f"tls_{role}_key": key for role in roles},
        )

    def remove(self) -> None:
        """Delete both files."""
        self.key.unlink(missing_ok=True)
        self.cert.unlink(missing_ok=True)


def make(folder: Path) -> Certificate:
    """Make a certificate and its key.

    Args:
        folder: Where; made with access for the owner only.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "cre-run")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # clocks of workers may be behind
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=_DAYS))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("cre-run")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False
        )
        # OpenSSL's strict checks, the default of newer Pythons, want it of an authority
        .add_extension(_usage(), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = Certificate(folder / "cre-run.crt", folder / "cre-run.key")
    _write(
        files.key,
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )
    _write(files.cert, certificate.public_bytes(serialization.Encoding.PEM))
    return files


def _usage() -> x509.KeyUsage:
    allowed = {"digital_signature", "key_cert_sign"}
    names = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{name: name in allowed for name in names})


def _write(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
