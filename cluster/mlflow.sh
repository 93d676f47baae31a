#!/usr/bin/env bash
# MLflow on the head, for the driver beside it and for whoever has a tunnel.
# usage: mlflow.sh FOLDER ARTIFACTS   (FOLDER: for the database, on a local disk; ARTIFACTS: s3://,
# gs:// or a folder). It has no password: nobody but this machine may reach it.
set -euo pipefail

folder=$1
artifacts=$2
# Its job runner takes over a gigabyte, which stays when the server ends, and is of no use here.
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false
export MLFLOW_ALLOW_PICKLE_DESERIALIZATION=false
export MLFLOW_DISABLE_TELEMETRY=true

mkdir -p "$folder"
exec mlflow server --host 127.0.0.1 --port 5000 --workers 1 \
  --allowed-hosts 'localhost:*,127.0.0.1:*' \
  --backend-store-uri "sqlite:///$folder/mlflow.db" --artifacts-destination "$artifacts"
