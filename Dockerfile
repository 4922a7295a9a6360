# SPDX-License-Identifier: Apache-2.0
# The command in an image, on CPUs:
#     docker build --tag monai-unlearnable .
# and on NVIDIA GPUs, with the name of one of PyTorch's builds for CUDA:
#     docker build --tag monai-unlearnable --build-arg TORCH=cu130 .
ARG PYTHON=3.11
FROM python:${PYTHON}-slim

ARG TORCH=cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /source
COPY constraints.txt ./
RUN pip install --constraint constraints.txt --extra-index-url "https://download.pytorch.org/whl/${TORCH}" torch
COPY setup.py setup.cfg pyproject.toml README.md LICENSE ./
COPY monai_unlearnable monai_unlearnable
COPY bundles bundles
RUN pip install --constraint constraints.txt ".[gdcm,pacs]"

RUN useradd --create-home owner
USER owner
WORKDIR /data
ENTRYPOINT ["monai-unlearnable"]
