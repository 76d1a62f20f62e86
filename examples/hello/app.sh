#!/bin/sh
# The program of the first example: it shows what it was given and ends with an exit code of its own.
echo "hello from inside, Linux $(uname -r), as $(id -un)"
echo "the broker gave me: $(cat /run/secrets/greeting)"
echo "my root file system says: $(cat /etc/motd)"
exit 7
