"""Detection heads: how the output tensors of each family of networks become boxes; one module each.

===============  ==========================================================================================
``base``         what a head must do, and what the heads have in common
``ssd_post``     SSD with the suppression inside (TensorFlow's detection post-processing)
``ssd_raw``      SSD as anchors and scores
``apart``        boxes, labels and scores after suppression, in outputs of their own
``rows``         what heads have in common whose output is a list of rows
``yolo``         YOLOv5 and YOLOv8 and their descendants
``yolo_raw``     YOLO heads before their boxes are decoded
``yolox``        YOLOX and YOLOv6
``gfl``          NanoDet and PicoDet
``end2end``      one row per object, suppressed inside
``points``       rows with key points behind them
``prototypes``   rows with the coefficients of masks behind them
``turned``       rows with an angle behind them
``overlay``      numbers on a grid as masks over the frame
``detr``         DETR, RT-DETR, RF-DETR, D-FINE
``decoded``      boxes and class scores of many places, decoded
``gluoncv``      GluonCV's three outputs
``dbnet``        places of writing
``blaze``        MediaPipe's faces, palms and people: SSD with key points
``faces``        what detectors of faces have in common
``ultraface``    UltraFace
``retinaface``   RetinaFace, and number plates by their corners
``scrfd``        SCRFD
``yunet``        YuNet
``centerface``   CenterFace
``yolov5_face``  YOLOv5-face
``mtcnn``        the stages of MTCNN, which are no detectors alone
===============  ==========================================================================================
"""
