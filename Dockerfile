# pgtide alone, for a Postgres elsewhere: DATABASE_URL and PGTIDE_SECRET_KEYS (or PGTIDE_SECRET) are
# its settings; its log lies in the volume /var/lib/pgtide. Every dependency comes as a binary wheel.
FROM python:3.12-slim

RUN useradd --system --uid 10001 --home-dir /var/lib/pgtide --create-home --shell /usr/sbin/nologin pgtide

WORKDIR /usr/src/pgtide
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY engine engine
COPY shapes shapes
COPY sql sql
RUN pip install --no-cache-dir --disable-pip-version-check --root-user-action=ignore \
    --only-binary=:all: --constraint constraints.txt .

WORKDIR /var/lib/pgtide

USER pgtide
# Under Electric's names, because PGTIDE_* wins over those: whoever sets either is heard.
ENV PYTHONUNBUFFERED=1 \
    ELECTRIC_STORAGE_DIR=/var/lib/pgtide \
    ELECTRIC_PORT=3000
VOLUME /var/lib/pgtide
EXPOSE 3000

# One that waits for another's lock is healthy too: in a rolling deploy the other stops only then.
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=6 CMD ["python", "-c", \
    "import os, urllib.request as r; e = os.environ.get; exit(b'starting' in r.urlopen(f'http://127.0.0.1:{e(\"PGTIDE_PORT\") or e(\"ELECTRIC_PORT\")}/v1/health', timeout=2).read())"]

ENTRYPOINT ["pgtide"]
CMD ["serve"]
