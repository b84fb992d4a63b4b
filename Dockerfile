# The page and HTTP API on a CPU: docker run -p 8000:8000 -e TOKEN=secret IMAGE
# Linted by hadolint; never built yet, so its size is not known.
FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE requirements.lock ./
COPY configs configs
COPY deepfer_jax deepfer_jax
RUN python -m venv /opt/deepfer \
    && /opt/deepfer/bin/pip install --no-cache-dir --constraint requirements.lock ".[demo]"

FROM python:3.12-slim
COPY --from=build /opt/deepfer /opt/deepfer
RUN useradd --uid 10001 --create-home deepfer
USER 10001
ENV PATH=/opt/deepfer/bin:$PATH
EXPOSE 8000
HEALTHCHECK --start-period=60s CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/healthz')"]
CMD ["sh", "-c", "exec deepfer demo --host 0.0.0.0 ${TOKEN:+--token $TOKEN} ${NO_TOKEN:+--no_token}"]
