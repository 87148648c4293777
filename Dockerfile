# `make demo` in a container:
#   docker build --tag steadypix .
#   docker run --rm --volume "$PWD/results:/steadypix/results" steadypix
FROM python:3.11-slim
# make, and the compiler that the installation builds the blurs' kernel with.
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /steadypix
COPY . .
# First a torch without CUDA, from the index that has one, then the pinned rest. The stamp tells make that it is done.
RUN python -m venv .venv \
    && .venv/bin/pip install --no-cache-dir --constraint constraints.txt \
        --index-url https://download.pytorch.org/whl/cpu torch torchvision \
    && .venv/bin/pip install --no-cache-dir --constraint constraints.txt --editable . \
    && touch .venv/.installed
CMD ["make", "demo"]
