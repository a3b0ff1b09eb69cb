# WaRA Studio as an image, for a CPU or for an NVIDIA GPU.
#
#   docker build -t wara-studio .
#   docker build -t wara-studio:cuda --build-arg DEVICE=cuda .
#
# The ordinary Linux build of torch runs on both and brings the CUDA libraries along. For a CPU image of a third of the
# size, name the index that PyTorch's install page gives for CPU:
#
#   docker build -t wara-studio --build-arg TORCH_INDEX_URL=https://... .
#
# A mirror, proxy or certificate for pip: --secret id=pip.conf,src=pip.conf (it leaves no trace in the image).

FROM python:3.11-slim-bookworm AS packages
ARG DEVICE=cpu
ARG TORCH_INDEX_URL=""
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_INPUT=1 \
    PIP_PROGRESS_BAR=off
RUN python -m venv /opt/wara
COPY requirements.txt /tmp/requirements.txt
# torch and torchvision first and without dependencies: those come with all the rest, from pip's usual index.
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    if [ -n "${TORCH_INDEX_URL}" ]; then \
        grep -E '^(torch|torchvision)==' /tmp/requirements.txt > /tmp/torch.txt \
        && /opt/wara/bin/pip install --no-cache-dir --no-deps --index-url "${TORCH_INDEX_URL}" -r /tmp/torch.txt; \
    fi \
    && /opt/wara/bin/pip install --no-cache-dir -r /tmp/requirements.txt
# Better here than on the ward: an image asked for a GPU whose torch cannot use one.
RUN case "${DEVICE}" in \
        cpu) ;; \
        cuda) /opt/wara/bin/python -c 'import sys, torch; sys.exit(not torch.version.cuda)' \
            || { echo "This torch has no CUDA: leave TORCH_INDEX_URL out, or name an index of CUDA builds."; exit 1; } ;; \
        *) echo "DEVICE is '${DEVICE}'; use cpu or cuda."; exit 1 ;; \
    esac

FROM python:3.11-slim-bookworm AS studio
COPY --from=packages /opt/wara /opt/wara
# Everything that is written goes under /data or /tmp, so the rest can be mounted read-only.
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /data/home --shell /usr/sbin/nologin wara \
    && mkdir -p /data/home /data/tmp \
    && chown -R wara:wara /data \
    && chmod 700 /data
# What changes most often comes last: a change of the code sends no packages again.
WORKDIR /opt/wara-studio
COPY LICENSE ./
COPY assets ./assets
COPY wara ./wara
COPY backend ./backend
COPY app ./app
ENV PATH=/opt/wara/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/data/home \
    TMPDIR=/data/tmp \
    MPLCONFIGDIR=/tmp/matplotlib \
    WARA_DATA_DIR=/data \
    WARA_HOME=/data/home \
    WARA_HOST=0.0.0.0 \
    WARA_PORT=7860 \
    WARA_DEVICE=auto \
    WARA_JOBS_OUTLIVE_SERVER=false \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
# By number: Kubernetes can check that it is not root only then.
USER 10001:10001
# Data sets and models (/data/datasets, /data/models) are one volume: a finished one is moved to its place in one step.
VOLUME /data
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=10s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import os, ssl, urllib.request as r; r.build_opener(r.ProxyHandler({}), r.HTTPSHandler(context=ssl._create_unverified_context())).open(('https' if os.environ.get('WARA_TLS_CERT') else 'http') + '://127.0.0.1:' + os.environ['WARA_PORT'] + '/api/v1/health/live', timeout=8)"]
CMD ["python", "-m", "backend"]
