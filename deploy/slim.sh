#!/bin/sh
# Removes from the site-packages folder given what no process of ours opens, and says how much each kind was.
# Compiled code (__pycache__) stays: the root file system is read-only, so each start would compile everything again.
# So do licences and the records of what is installed. deploy/image_test.sh shows that everything still works.
set -eu
cd "$1"

drop() {
  kind=$1; shift
  before=$(du -sm . | cut -f1)
  for path in "$@"; do rm -rf -- "./$path"; done
  echo "slim: $((before - $(du -sm . | cut -f1))) MB of $kind"
}

# The tests of the large packages; none imports its own.
drop "tests" numpy/tests numpy/*/tests pandas/tests scipy/*/tests scipy/*/*/tests sklearn/tests sklearn/*/tests \
  sklearn/*/*/tests matplotlib/tests mpl_toolkits/*/tests zmq/tests joblib/test
# Tools that change ONNX graphs: the service opens graphs as they are, and training writes them with tf2onnx.
drop "onnxruntime's tools" onnxruntime/transformers onnxruntime/quantization onnxruntime/tools
# AWS's client describes 400 services; a store in S3 needs S3, and whoever hands out credentials for it.
others=
for service in botocore/data/*/; do
  case $service in
    */s3/|*/sts/|*/sso/|*/sso-oidc/|*/signin/) ;;
    *) others="$others $service";;
  esac
done
# shellcheck disable=SC2086
drop "descriptions of AWS's other services" $others
# For compiling against a package; there is no compiler.
drop "headers" tensorflow/include numpy/_core/include numpy/_core/lib numpy/random/lib
find . -type f \( -name '*.pyx' -o -name '*.pxd' -o -name '*.pxi' -o -name '*.c' -o -name '*.cpp' -o -name '*.h' -o -name '*.a' \) -delete
