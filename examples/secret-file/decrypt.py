"""Decrypts /srv/report.enc (12-byte nonce, then AES-256-GCM) with the key the broker released."""
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

with open("/run/secrets/key", "rb") as f:
    key = f.read()
with open("/srv/report.enc", "rb") as f:
    sealed = f.read()
print(AESGCM(key).decrypt(sealed[:12], sealed[12:], None).decode(), end="")
