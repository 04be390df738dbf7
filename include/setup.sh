#!/bin/sh
# Finds a Python that will do and hands over to set_up.py; at once over when everything is in place.
# POSIX sh, run by make from the top of the repository. Sets nothing outside this folder.
set -u
cd "$(dirname "$0")/.." || exit 1
here=$(pwd -P)

# What .venv was made from, and where: moving the folder or changing a pin makes it anew. And the sources of what it compiled.
wanted=$(cksum requirements.txt include/set_up.py)" $here"
sources=$(cat sentiment_core/warm.py sentiment_core/text/*.py | cksum)
if [ -x .venv/bin/python ] && [ -f .venv/.made-from ] && [ -f .venv/.warmed ]; then
    made=$(cat .venv/.made-from)
    {
        read -r warmed
        read -r place # empty where compiled code cannot be kept
    } <.venv/.warmed
    [ "$made" = "$wanted" ] && [ "$warmed" = "$sources" ] && { [ -z "$place" ] || [ -f "$place" ]; } && exit 0
fi

# A version manager's shim answers to a name without being able to run: every candidate is tried.
usable() {
    "$1" -I -c 'import sys, venv, ensurepip, ssl, sqlite3, ctypes
sys.exit(sys.implementation.name != "cpython" or not (3, 12) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1
}

home=${HOME:-$(eval echo "~$(id -un)")}
find_python() {
    for version in 3.12 3.13; do
        old_ifs=$IFS
        IFS=:
        for folder in $PATH; do
            IFS=$old_ifs
            for name in "python$version" python3 python; do
                candidate=$folder/$name
                if [ -x "$candidate" ] && is_version "$candidate" $version && usable "$candidate"; then
                    python=$candidate
                    return 0
                fi
            done
        done
        IFS=$old_ifs
        for candidate in \
            "${PYENV_ROOT:-$home/.pyenv}/versions/$version".*/bin/python3 "$home/.pyenv/versions/$version".*/bin/python3 \
            /opt/pyenv/versions/$version.*/bin/python3 \
            "${UV_PYTHON_INSTALL_DIR:-$home/.local/share/uv/python}"/cpython-$version.*/bin/python3 \
            "$home/.local/bin/python$version" /usr/local/bin/python$version /usr/bin/python$version \
            /opt/homebrew/bin/python$version /opt/homebrew/opt/python@$version/bin/python$version \
            /usr/local/opt/python@$version/bin/python$version /home/linuxbrew/.linuxbrew/bin/python$version \
            /Library/Frameworks/Python.framework/Versions/$version/bin/python$version \
            "$home/.asdf/installs/python/$version".*/bin/python3 "$home/.local/share/mise/installs/python/$version"*/bin/python3 \
            /opt/python/$version*/bin/python3 /opt/conda/bin/python3 "$home"/miniconda3/bin/python3 "$home"/miniforge3/bin/python3; do
            if [ -x "$candidate" ] && is_version "$candidate" $version && usable "$candidate"; then
                python=$candidate
                return 0
            fi
        done
    done
    return 1
}

is_version() {
    [ "$("$1" -I -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" = "$2" ]
}

if ! find_python; then
    echo "Python 3.12 or 3.13 (with venv) is needed and none was found: install it (Debian, Ubuntu: apt install python3.12-venv;" \
        "macOS: brew install python@3.12; anywhere: uv python install 3.12) and run make again." >&2
    exit 1
fi
exec "$python" -I include/set_up.py "$wanted" "$sources"
