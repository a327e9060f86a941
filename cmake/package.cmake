# What `cmake --install` puts where, and the packages that cpack makes of it: longscan, and
# longscan-cuda with the plug-in, which loads the driver, cuBLASLt and NCCL where they are and so
# depends on none of them.
include(GNUInstallDirs)
set(pages ${CMAKE_BINARY_DIR}/pages)
install(TARGETS longscan COMPONENT program)
if(CMAKE_CROSSCOMPILING AND NOT CMAKE_CROSSCOMPILING_EMULATOR)
  message(STATUS "longscan: no manual pages and completions, for the program does not run here")
else()
  add_custom_command(OUTPUT ${pages}/longscan.1
    COMMAND ${CMAKE_COMMAND} -DPROGRAM=$<TARGET_FILE:longscan> "-DEMULATOR=${CMAKE_CROSSCOMPILING_EMULATOR}"
      -DFOLDER=${pages} -P ${PROJECT_SOURCE_DIR}/cmake/pages.cmake
    DEPENDS longscan ${PROJECT_SOURCE_DIR}/cmake/pages.cmake VERBATIM)
  add_custom_target(pages ALL DEPENDS ${pages}/longscan.1)
  install(DIRECTORY ${pages}/ DESTINATION ${CMAKE_INSTALL_MANDIR}/man1 COMPONENT program
    FILES_MATCHING PATTERN "*.1")
  install(FILES ${pages}/longscan.bash DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions
    RENAME longscan COMPONENT program)
  install(FILES ${pages}/longscan.zsh DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions
    RENAME _longscan COMPONENT program)
  install(FILES ${pages}/longscan.fish DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d
    COMPONENT program)
endif()
install(FILES README.md CHANGELOG.md LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT program)
install(DIRECTORY docs DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT program)

set(CPACK_PACKAGE_NAME longscan)
set(CPACK_PACKAGE_VENDOR longscan)
set(LONGSCAN_MAINTAINER "The longscan authors <longscan@example.org>" CACHE STRING "whom packages name as theirs")
set(CPACK_PACKAGE_CONTACT "${LONGSCAN_MAINTAINER}")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "scores documents of any length with recurrent language models")
set(CPACK_GENERATOR DEB TGZ)
set(CPACK_STRIP_FILES ON)
set(CPACK_COMPONENTS_ALL program)
if(LONGSCAN_HAVE_CUDA)
  list(APPEND CPACK_COMPONENTS_ALL cuda)
endif()
set(CPACK_ARCHIVE_COMPONENT_INSTALL ON)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_DEBIAN_PROGRAM_PACKAGE_NAME longscan)
set(CPACK_DEBIAN_PROGRAM_DESCRIPTION "Documents come from files or Kafka and are spread over any number of ranks;
a document's score is the same, bit for bit, however the work is cut.")
if(LONGSCAN_HAVE_MPI)
  set(CPACK_DEBIAN_PROGRAM_PACKAGE_RECOMMENDS openmpi-bin) # mpirun, for `longscan run`
endif()
set(CPACK_DEBIAN_PROGRAM_PACKAGE_SUGGESTS longscan-cuda)
set(CPACK_DEBIAN_CUDA_PACKAGE_NAME longscan-cuda)
set(CPACK_DEBIAN_CUDA_DESCRIPTION "The plug-in for NVIDIA GPUs, which longscan loads where there is a driver.
NCCL, where it is installed, carries states between GPUs.")
set(CPACK_DEBIAN_CUDA_PACKAGE_DEPENDS "longscan (= ${PROJECT_VERSION})")
set(CPACK_DEBIAN_CUDA_PACKAGE_SUGGESTS "libnccl2, libcublas-13-0")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_LONGSCAN_FOLDER ${PROJECT_SOURCE_DIR}/cmake/package)
set(CPACK_PRE_BUILD_SCRIPTS ${PROJECT_SOURCE_DIR}/cmake/package/debian.cmake)
include(CPack)
