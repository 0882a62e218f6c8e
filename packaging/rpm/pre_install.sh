# Makes the gateway's user.
if ! getent group longhaul >/dev/null; then groupadd --system longhaul; fi
if ! getent passwd longhaul >/dev/null; then
  useradd --system --gid longhaul --home-dir /nonexistent --no-create-home --shell /sbin/nologin longhaul
fi
