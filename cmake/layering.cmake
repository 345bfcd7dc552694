# The table of docs/architecture.md, "Folders": an include that points up it fails the build.
add_custom_target(check_layering ALL
  COMMAND ${PROJECT_SOURCE_DIR}/tools/check-layering ${PROJECT_SOURCE_DIR}
  COMMENT "Checking which folder includes which")
