"""tritonclient with and without compression; argument: host:port of a rung."""

import sys

import numpy as np
import tritonclient.http as triton

with triton.InferenceServerClient(sys.argv[1]) as client:
    print("ready", "live", client.is_server_live() and client.is_model_ready("nano"), sep="\t")
    for binary in (True, False):
        pixels = np.full((48, 64, 3), 114, np.uint8)
        for sent in (None, "gzip", "deflate"):
            for wanted in (None, "gzip", "deflate"):
                given = triton.InferInput("image", list(pixels.shape), "UINT8")
                given.set_data_from_numpy(pixels, binary_data=binary)
                answer = client.infer(
                    "nano",
                    [given],
                    request_compression_algorithm=sent,
                    response_compression_algorithm=wanted,
                )
                boxes = answer.as_numpy("boxes")
                print("infer", f"{binary} {sent} {wanted}", boxes.shape[1], sep="\t")
