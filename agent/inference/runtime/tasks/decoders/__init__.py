"""Detection heads: how the output tensors of each family of networks become boxes; one module each.

============  ==================================================================================
``base``      what a head must do, and what the heads have in common
``ssd_post``  SSD with the suppression inside (TensorFlow's detection post-processing)
``ssd_raw``   SSD as anchors and scores
``yolo``      YOLOv5 and YOLOv8 and their descendants
``yolox``     YOLOX
``detr``      DETR and RT-DETR
``gluoncv``   GluonCV's three outputs
``end2end``   one row per object, suppressed inside
============  ==================================================================================
"""
