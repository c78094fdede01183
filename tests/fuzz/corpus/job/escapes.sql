SELECT E'it\'s ${N}', '$${N}', `a``b`, "q""${Q}" FROM a;
SET retain_batches TO 3