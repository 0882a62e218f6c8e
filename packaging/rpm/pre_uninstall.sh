# $1 is 0 when the package goes for good. The gateway then drains and ends.
if [ "$1" -eq 0 ] && [ -d /run/systemd/system ]; then systemctl --no-reload disable --now longhaul.service longhaul.socket || :; fi
