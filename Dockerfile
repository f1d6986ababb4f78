# The installed package with the versions that the tests passed with.
# Its commands were run in a fresh virtual environment of Python 3.11 (tests/test_package.py does so
# too); no image has been built from this file yet.
#
#   docker build --tag pixel-hrl .
#   docker run --rm --gpus all --volume "$PWD/runs:/experiments/runs" pixel-hrl train agent=skills
FROM python:3.11-slim
COPY . /source
RUN python -m pip install --no-cache-dir --constraint /source/constraints.txt /source
WORKDIR /experiments
ENTRYPOINT ["pixel-hrl"]
CMD ["--help"]
