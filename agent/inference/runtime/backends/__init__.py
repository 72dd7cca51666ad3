"""Backends: one module each, imported only when a model asks for it.

===============  ==================================================================================
``litert``       LiteRT and TFLite
``onnx``         ONNX Runtime
``opencv``       OpenCV DNN: ONNX, TensorFlow, Caffe, OpenVINO
``dlr``          what SageMaker Neo and TVM compile, run by DLR
``dlr_folder``   what a compiled model's folder holds
``dlr_library``  DLR's library, loaded in a child process first
``settings``     the options that backends share
===============  ==================================================================================
"""
