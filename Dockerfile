# The service of a run: docker build -t rsml . ; docs/serve.md has the line that starts it.
FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE requirements.txt ./
COPY configs configs
COPY rsml rsml
# requirements.txt holds the versions that were tested, for whatever the extras bring.
RUN python -m venv /opt/rsml && /opt/rsml/bin/pip install --no-cache-dir -c requirements.txt ".[app,retrieval]"

FROM python:3.12-slim
COPY --from=build /opt/rsml /opt/rsml
ENV PATH=/opt/rsml/bin:$PATH PYTHONUNBUFFERED=1 MPLCONFIGDIR=/tmp/matplotlib CUDA_VISIBLE_DEVICES=-1
RUN useradd --system --uid 10001 --no-create-home rsml
USER 10001
WORKDIR /tmp
EXPOSE 8765
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s CMD ["python", "-c", \
  "import urllib.request as u; u.urlopen('http://127.0.0.1:8765/healthz', timeout=4)"]
# The run is mounted at /model; the token is RSML_TOKEN, or a file given with --token-file.
ENTRYPOINT ["rsml", "serve", "/model", "--host", "0.0.0.0"]
