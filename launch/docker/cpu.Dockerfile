# For CPU. From the root of a clone:
#   docker build -f launch/docker/cpu.Dockerfile -t lficam:cpu .
FROM python:3.12-slim
WORKDIR /lficam
COPY . .
RUN pip install --no-cache-dir -c constraints.txt --editable '.[gcs]'
# Not root: what a run writes to a mounted folder belongs to the user who started it (--user).
ENV HOME=/tmp PYTHONUNBUFFERED=1
ENTRYPOINT []
CMD ["lficam", "--help"]
