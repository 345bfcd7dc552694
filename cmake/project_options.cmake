# What every target is compiled with. FUSE4FS_SANITIZE is set by the presets asan and tsan.
set(FUSE4FS_SANITIZE "" CACHE STRING "address, thread or empty")
option(BUILD_TESTING "Build the tests" ON)

add_library(project_options INTERFACE)
target_include_directories(project_options INTERFACE ${PROJECT_SOURCE_DIR})
target_compile_definitions(project_options INTERFACE _FILE_OFFSET_BITS=64 _GNU_SOURCE FUSE4FS_VERSION="${PROJECT_VERSION}")
target_compile_options(project_options INTERFACE -Wall -Wextra -Werror -fno-strict-overflow -fstack-protector-strong)
target_link_libraries(project_options INTERFACE Threads::Threads)

if(FUSE4FS_SANITIZE STREQUAL "address")
  target_compile_definitions(project_options INTERFACE FUSE4FS_SANITIZED)
  target_compile_options(project_options INTERFACE -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(project_options INTERFACE -fsanitize=address,undefined)
elseif(FUSE4FS_SANITIZE STREQUAL "thread")
  target_compile_definitions(project_options INTERFACE FUSE4FS_SANITIZED)
  # -Wtsan warns of std::atomic_thread_fence in the library's own headers.
  target_compile_options(project_options INTERFACE -fsanitize=thread -fno-omit-frame-pointer -Wno-tsan)
  target_link_options(project_options INTERFACE -fsanitize=thread)
else()
  target_compile_options(project_options INTERFACE $<$<CONFIG:Release>:-D_FORTIFY_SOURCE=2>)
  target_link_options(project_options INTERFACE -Wl,-z,relro,-z,now -pie)
endif()

find_program(CCACHE ccache)
if(CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE})
endif()
