# For NVIDIA GPUs: CUDA 13 comes with the wheels, only the driver is the machine's. From the root of a clone:
#   docker build -f launch/docker/cuda.Dockerfile -t lficam:cuda .
FROM python:3.12-slim
WORKDIR /lficam
COPY . .
RUN pip install --no-cache-dir -c constraints.txt --editable '.[cuda,gcs]'
# Not root: what a run writes to a mounted folder belongs to the user who started it (--user).
ENV HOME=/tmp PYTHONUNBUFFERED=1
ENTRYPOINT []
CMD ["lficam", "--help"]
