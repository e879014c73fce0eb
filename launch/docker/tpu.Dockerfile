# For TPUs: libtpu comes with the wheels. From the root of a clone:
#   docker build -f launch/docker/tpu.Dockerfile -t lficam:tpu .
FROM python:3.12-slim
WORKDIR /lficam
COPY . .
RUN pip install --no-cache-dir -c constraints.txt --editable '.[tpu,gcs]'
# Not root: what a run writes to a mounted folder belongs to the user who started it (--user).
ENV HOME=/tmp PYTHONUNBUFFERED=1
ENTRYPOINT []
CMD ["lficam", "--help"]
