# kdnb on a CPU: docker build --tag kdnb . ; docker run --rm --volume kdnb:/home/reader/results kdnb   (docs/running.md)
FROM python:3.11-slim-bookworm

# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends make \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 reader \
    && install --directory --owner=reader /home/reader/kdnb /home/reader/results /home/reader/data

USER 1000
WORKDIR /home/reader/kdnb
ENV KDNB_OUTPUTS=/home/reader/results \
    KDNB_DATA_CACHE=/home/reader/data \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1

# Packages first, since they change seldom. All but torch by hash; torch for CPUs comes from an index of its own.
COPY --chown=1000 requirements.lock ./
RUN python -m venv .venv \
    && .venv/bin/python -m pip install --require-hashes --requirement requirements.lock \
    && .venv/bin/python -m pip install --no-deps torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu

COPY --chown=1000 . .
RUN .venv/bin/python -m pip install --no-deps --no-build-isolation --editable . \
    && touch .venv/.ready

VOLUME ["/home/reader/results", "/home/reader/data"]
CMD ["make", "study"]
